#!lua
-- submit: asked -> pending. In a queue, or in the schedule when it is due later.
-- Per job: `ok`, or `repeat` when the id exists (also the answer to a call whose first reply was lost).
-- `due` is empty, `+<ms>` from now, or an absolute time; `expires` the same.
-- @rows id task queue priority due expires tail payload
-- @include now int head ready
local function at(when)
  if when == '' then
    return nil
  end
  local ms = tonumber(string.sub(when, 1, 1) == '+' and string.sub(when, 2) or when)
  return int(string.sub(when, 1, 1) == '+' and now + ms or ms)
end

local verdicts, lists, queues, scheduled, expiring = {}, {}, {}, {}, {}

for row = first_row, #ARGV, row_width do
  local id, task, queue, priority, due, expires, tail, payload = unpack(ARGV, row, row + row_width - 1)
  local job = {
    id = id, task = task, status = 'pending', retries = 0, attempt = 0, lost = 0, created_at = int(now),
    queue = queue, priority = tonumber(priority), run_at = at(due), expires_at = at(expires), tail = tail,
  }
  if redis.call('SET', key.job .. id, write_head(job), 'NX') then
    if payload ~= '' then
      redis.call('SET', key.job .. id .. ':payload', payload)
    end
    if job.run_at and tonumber(job.run_at) > now then
      scheduled[#scheduled + 1] = job.run_at
      scheduled[#scheduled + 1] = id
    else
      local list = ready(queue, job.priority)
      lists[list] = lists[list] or {}
      table.insert(lists[list], id)
      queues[queue] = true
    end
    if job.expires_at then
      expiring[#expiring + 1] = job.expires_at
      expiring[#expiring + 1] = id
    end
    verdicts[#verdicts + 1] = 'ok'
  else
    verdicts[#verdicts + 1] = 'repeat'
  end
end

for list, ids in pairs(lists) do
  redis.call('RPUSH', list, unpack(ids))
end
if #scheduled > 0 then redis.call('ZADD', key.schedule, unpack(scheduled)) end
if #expiring > 0 then redis.call('ZADD', key.expiry, unpack(expiring)) end
for queue in pairs(queues) do
  mark(queue)
end
return verdicts
