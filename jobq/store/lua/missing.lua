#!lua flags=allow-oom
-- missing: a listed id whose record had not come yet (a producer may push first) -> the front of its queue once the
-- record is there, or quarantine after `patience` ms. Looks at the 1,000 newest, so that a flood of ids without records
-- does not keep a late record waiting, and gives up at most 100 a call. Answers the ids given up.
-- @args patience
-- @include now int ready quarantine
local function read(entry)
  local queue, priority, id = string.match(entry, '^(.*):(%d):(.*)$')
  return {id = id, queue = queue, priority = tonumber(priority)}, redis.call('TYPE', key.job .. id).ok
end

for _, entry in ipairs(redis.call('ZREVRANGE', key.missing, '0', '999')) do
  local job, found = read(entry)
  if found == 'string' then
    make_ready('LPUSH', job)
    redis.call('ZREM', key.missing, entry)
  end
end

local given_up = {}
local late = redis.call('ZRANGEBYSCORE', key.missing, '-inf', int(now - patience), 'LIMIT', '0', '100')
for _, entry in ipairs(late) do
  local job, found = read(entry)
  if found == 'string' then
    make_ready('LPUSH', job)
  else
    quarantine(job.id, found == 'none' and 'no record' or 'record is a ' .. found)
    given_up[#given_up + 1] = job.id
  end
  redis.call('ZREM', key.missing, entry)
end
return given_up
