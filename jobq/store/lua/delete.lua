#!lua flags=allow-oom
-- delete: anything but processing -> nothing. A list entry that stays behind is known by `job_erased` for 30 days.
-- Answers a verdict and the status found (of a record of ours): `ok`, `repeat` (erased before), `state` (it runs),
-- `missing`, `corrupt` (not a string: somebody else's).
-- @args id
-- @include now int head erase
local text = redis.pcall('GET', key.job .. id)
if not text then
  return {redis.call('ZSCORE', key.erased, id) and 'repeat' or 'missing', ''}
end
if redis.call('HEXISTS', key.running, id) == 1 then
  return {'state', 'processing'}
end
if type(text) ~= 'string' then
  return {'corrupt', ''}
end
local job = read_head(text, id)
if job then
  redis.call('ZREM', key.index .. job.status, id)
end
redis.call('ZREM', key.schedule, id)
redis.call('ZREM', key.expiry, id)
redis.call('HDEL', key.cancel, id)
redis.call('ZREMRANGEBYSCORE', key.erased, '-inf', int(now - 30 * 86400000))
redis.call('ZADD', key.erased, int(now), id)
erase(id)
return {'ok', job and job.status or ''}
