#!lua
-- submit: asked -> pending. In a queue, or in the schedule when it is due later.
-- Per job: `ok`; `repeat` when the id exists (also the answer to a call whose first reply was lost); with an idempotency
-- key (`idem`, its digest; `body`, the request's) `replay:<id>` for the job of an equal request, `mismatch` for another's.
-- `full` when as many jobs were ready in its queue before the call as `most` allows (0: any number); with `atomic` 1 one
-- such job refuses all that are new. What was made before is answered as ever.
-- `due` is empty, `+<ms>` from now, or an absolute time; `expires` the same.
-- @args most atomic
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

-- Is the queue full? As of the start of the call: nothing is pushed before its end. A scheduled job is refused too: when
-- it is due nobody can.
local full = {}
local function is_full(queue)
  if full[queue] == nil then
    local depth = 0
    for priority = 0, 9 do
      local length = most ~= '0' and redis.pcall('LLEN', ready(queue, priority))
      depth = depth + (tonumber(length) or 0)
    end
    full[queue] = most ~= '0' and depth >= tonumber(most)
  end
  return full[queue]
end

local function exists(id)
  return redis.call('EXISTS', key.job .. id) == 1
end

local refuse_all = false
if atomic == '1' then
  for row = first_row, #ARGV, row_width do
    local id, _, queue, _, _, _, _, _, idem, body = unpack(ARGV, row, row + row_width - 1)
    refuse_all = refuse_all or (is_full(queue) and not made_before(idem, body) and not exists(id))
  end
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
  elseif refuse_all or is_full(queue) then
    verdicts[#verdicts + 1] = exists(id) and 'repeat' or 'full'
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
