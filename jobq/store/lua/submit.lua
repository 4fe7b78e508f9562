#!lua
-- submit: asked -> pending. In a queue, or in the schedule when it is due later.
-- Per job: `ok`; `repeat` when the id exists (also the answer to a call whose first reply was lost); with an idempotency
-- key (`idem`, its digest; `body`, the request's) `replay:<id>` for the job of an equal request, `mismatch` for another's.
-- `due` is empty, `+<ms>` from now, or an absolute time; `expires` the same.
-- @rows id task queue priority due expires tail payload idem body
-- @include now int head ready count
local function at(when)
  if when == '' then
    return nil
  end
  local ms = tonumber(string.sub(when, 1, 1) == '+' and string.sub(when, 2) or when)
  return int(string.sub(when, 1, 1) == '+' and now + ms or ms)
end

-- The verdict of a request that was made before under this key, if any.
local function made_before(idem, body)
  local known = idem ~= '' and redis.pcall('GET', key.idem .. idem)
  if type(known) ~= 'string' then
    return nil
  end
  local known_body, id = string.match(known, '^(%x+):(.*)$')
  return known_body == body and 'replay:' .. id or 'mismatch'
end

local verdicts, lists, queues, marked, scheduled, expiring = {}, {}, {}, {}, {}, {}

for row = first_row, #ARGV, row_width do
  local id, task, queue, priority, due, expires, tail, payload, idem, body = unpack(ARGV, row, row + row_width - 1)
  local job = {
    id = id, task = task, status = 'pending', retries = 0, attempt = 0, lost = 0, created_at = int(now),
    queue = queue, priority = tonumber(priority), run_at = at(due), expires_at = at(expires), tail = tail,
  }
  local before = made_before(idem, body)
  if before then
    verdicts[#verdicts + 1] = before
  elseif redis.call('SET', key.job .. id, write_head(job), 'NX') then
    if idem ~= '' then
      redis.call('SET', key.idem .. idem, body .. ':' .. id, 'EX', '86400')
    end
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
      marked[queue] = true
    end
    queues[queue] = (queues[queue] or 0) + 1
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
for queue, number in pairs(queues) do
  redis.call('SADD', key.queues, queue)
  count(queue, 'in', number)
end
for queue in pairs(marked) do
  mark(queue)
end
return verdicts
