#!lua flags=allow-oom
-- purge: forget jobs that are ready in this queue, up to 100 a call, the next to run first. What is scheduled, parked or
-- running stays. Answers how many entries left the queue: 100 means that there may be more.
-- @args queue
-- @include int head ready erase
local seen = 0
for priority = 9, 0, -1 do
  local list = ready(queue, priority)
  local ids = redis.call('LRANGE', list, '0', int(99 - seen))
  for _, id in ipairs(ids) do
    local text = redis.pcall('GET', key.job .. id)
    local job = type(text) == 'string' and read_head(text, id)
    if redis.call('HEXISTS', key.running, id) == 0 and (not job or job.status == 'pending') then
      erase(id)
      redis.call('ZREM', key.expiry, id)
    end
  end
  if #ids > 0 then
    redis.call('LPOP', list, #ids)
  end
  seen = seen + #ids
  if seen >= 100 then
    break
  end
end
return seen
