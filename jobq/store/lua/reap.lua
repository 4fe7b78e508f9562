#!lua flags=allow-oom
-- reap: a lease that ran out -> front of the queue, or failed with reason `lost` after `max_lost` losses; cancelled if that
-- had been asked. Up to 100 a call; any number of reapers is safe. Answers pairs of id and new status.
-- @args max_lost
-- @include now int head ready count finish remember
local LOST = '{"type":"Lost","message":"the worker that ran it was lost %d times","reason":"lost"}'
local reaped = {}

local function give_back(id, job)
  job.lost = job.lost + 1
  local cancelled = redis.call('HEXISTS', key.cancel, id) == 1
  if cancelled or job.lost >= tonumber(max_lost) then
    job.error = cancelled and job.error or string.format(LOST, job.lost)
    finish(job, cancelled and 'cancelled' or 'failed')
    return job.status
  end
  job.error = '{"type":"Lost","message":"the worker that ran it was lost","reason":"lost"}'
  remember(job, 'lost')
  count(job.queue, 'lost', 1)
  job.status, job.started_at, job.worker = 'pending', nil, nil
  redis.call('SET', key.job .. id, write_head(job))
  make_ready('LPUSH', job)
  return 'pending'
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.leases, '-inf', int(now), 'LIMIT', '0', '100')) do
  local text = redis.pcall('GET', key.job .. id)
  redis.call('ZREM', key.leases, id)
  redis.call('HDEL', key.running, id)
  local job = type(text) == 'string' and read_head(text, id)
  local status = 'missing'
  if job then
    status = give_back(id, job)
  elseif type(text) == 'string' then
    -- A foreign record not yet adopted knows no counters: it goes back as it is, a cancel with it.
    make_ready('LPUSH', {id = id, queue = 'default', priority = 0})
    status = 'pending'
  end
  if job or status == 'missing' then redis.call('HDEL', key.cancel, id) end
  redis.call('HDEL', key.progress, id)
  reaped[#reaped + 1] = {id, status}
end
return reaped
