#!lua flags=allow-oom
-- unpark: jobs of a task that nobody knew -> front of their queue, called by a worker that knows it and serves the queue.
-- Entries of other queues go to the end of the parking list. Up to 100 a task and call. Answers how many came back.
-- @args queues tasks
-- @include now head ready
local served = {}
for queue in string.gmatch(queues, '[^,]+') do
  served[queue] = true
end
local back = 0
for task in string.gmatch(tasks, '[^,]+') do
  local lot = key.parked .. task
  for _, id in ipairs(redis.call('LRANGE', lot, '0', '99')) do
    local text = redis.pcall('GET', key.job .. id)
    local job = type(text) == 'string' and read_head(text, id)
    redis.call('LPOP', lot)
    if job and job.status == 'pending' then
      if served[job.queue] then
        make_ready('LPUSH', job)
        back = back + 1
      else
        redis.call('RPUSH', lot, id)
      end
    end
  end
  if redis.call('EXISTS', lot) == 0 then redis.call('SREM', key.lots, task) end
end
return back
