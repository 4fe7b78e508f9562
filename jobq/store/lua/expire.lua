#!lua flags=allow-oom
-- expire: pending jobs whose `expires_at` has passed -> failed, never run. Up to 100 a call. Answers how many were looked at.
-- @include now int expire
local ids = redis.call('ZRANGEBYSCORE', key.expiry, '-inf', int(now), 'LIMIT', '0', '100')
for _, id in ipairs(ids) do
  local text = redis.pcall('GET', key.job .. id)
  local job = type(text) == 'string' and read_head(text, id)
  if job and job.status == 'pending' then
    expire(job)
  end
end
if #ids > 0 then
  redis.call('ZREM', key.expiry, unpack(ids))
end
return #ids
