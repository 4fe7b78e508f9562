#!lua flags=allow-oom
-- adopt: write the canonical form of a foreign producer's record. By the holder of a running job under its token, or
-- (token empty) for a job nobody runs; in both cases only if the record still reads as `expected`.
-- Answers `ok`, `repeat` (it reads so already), `stale` (another holder), `conflict` (the record changed).
-- @args id token expected record
local current = redis.pcall('GET', key.job .. id)
if current == record then
  return 'repeat'
end
if (redis.call('HGET', key.running, id) or '') ~= token then
  return 'stale'
end
if current ~= expected then
  return 'conflict'
end
redis.call('SET', key.job .. id, record)
return 'ok'
