-- ready: where a claimable job waits, and the mark that wakes a worker for it.
local function ready(queue, priority)
  if priority ~= 0 then
    return key.queue .. ':' .. queue .. ':' .. string.format('%d', priority)
  end
  return queue == 'default' and key.queue or key.queue .. ':' .. queue
end

local function mark(queue)
  redis.call('ZADD', key.wake .. queue, '0', '1')
end

-- push is RPUSH (the back) or LPUSH (the front: work that was already begun).
local function make_ready(push, job)
  redis.call(push, ready(job.queue, job.priority), job.id)
  mark(job.queue)
end
