-- lose: a job whose attempt ended without its own doing (its worker or its process died) -> the front of its queue. The
-- caller has counted the loss and set the error.
-- @include head ready remember count
local function lose(job)
  remember(job, 'lost')
  count(job.queue, 'lost', 1)
  job.status, job.started_at, job.worker, job.finished_at = 'pending', nil, nil, nil
  redis.call('SET', key.job .. job.id, write_head(job))
  make_ready('LPUSH', job)
end
