#!lua flags=allow-oom
-- reap: a lease that ran out -> front of the queue, or failed with reason `lost` after `max_lost` losses; cancelled if that
-- had been asked. Up to 100 a call; any number of reapers is safe. Answers pairs of id and new status; `stale` for a lease
-- left over of a job that is not processing, which stays as it is.
-- @args max_lost latest
-- @include now int head finish lose
local LOST = '{"type":"Lost","message":"%s","reason":"lost"}'
local reaped = {}
if now > tonumber(latest) then return reaped end

-- A foreign producer may have written any name, and nothing may be quoted or have braces in an error.
local function by_worker(job)
  return string.find(job.worker or '', '^[%w._-]+$') and ' ' .. job.worker or ''
end

local function give_back(id, job)
  job.lost = job.lost + 1
  if redis.call('HEXISTS', key.cancel, id) == 1 then
    finish(job, 'cancelled')
  elseif job.lost >= tonumber(max_lost) then
    local message = string.format('the job was lost %d times, the last time with its worker%s', job.lost, by_worker(job))
    job.error = string.format(LOST, message)
    finish(job, 'failed')
  else
    job.error = string.format(LOST, 'the worker that ran it was lost')
    lose(job)
  end
  return job.status
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.leases, '-inf', int(now), 'LIMIT', '0', '100')) do
  local text = redis.pcall('GET', key.job .. id)
  redis.call('ZREM', key.leases, id)
  redis.call('HDEL', key.running, id)
  local job = type(text) == 'string' and read_head(text, id)
  local status = 'missing'
  if job and job.status == 'processing' then
    status = give_back(id, job)
  elseif job then
    status = 'stale'
  elseif type(text) == 'string' then
    -- A foreign record not yet adopted knows no counters: it goes back as it is, a cancel with it.
    make_ready('LPUSH', {id = id, queue = 'default', priority = 0})
    status = 'pending'
  end
  -- A cancel that was asked of a job that did not run is the scrubber's to honour.
  if status ~= 'pending' and status ~= 'stale' then redis.call('HDEL', key.cancel, id) end
  redis.call('HDEL', key.progress, id)
  reaped[#reaped + 1] = {id, status}
end
return reaped
