#!lua flags=allow-oom
-- purge: forget jobs that are ready in this queue, up to 100 a call, the next to run first. What is scheduled, parked or
-- running stays, and a job of another queue goes to its own list. Answers how many entries left the queue: 100 means
-- that there may be more.
-- @args queue
-- @include now int head ready erase
local function forget(id)
  -- What is not an id could name another job's keys.
  local text = string.find(id, '^[%x%-]+$') and redis.pcall('GET', key.job .. id)
  if type(text) ~= 'string' or redis.call('HEXISTS', key.running, id) == 1 then
    return
  end
  local job = read_head(text, id)
  if job and job.status ~= 'pending' then
    return
  elseif job and job.queue ~= queue then
    make_ready('RPUSH', job)
  elseif job and job.run_at and tonumber(job.run_at) > now then
    redis.call('ZADD', key.schedule, 'NX', job.run_at, id)
  else
    erase(id)
    redis.call('ZREM', key.expiry, id)
    redis.call('HDEL', key.cancel, id)
  end
end

local seen = 0
for priority = 9, 0, -1 do
  local list = ready(queue, priority)
  local ids = redis.call('LRANGE', list, '0', int(99 - seen))
  for _, id in ipairs(ids) do
    forget(id)
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
