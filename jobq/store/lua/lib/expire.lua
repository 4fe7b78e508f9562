-- expire: a job whose time ran out before a worker took it. It is never run. Its list entry stays and claim skips it.
-- @include finish
local function expire(job)
  job.error = '{"type":"Expired","message":"not started before expires_at","reason":"expired"}'
  finish(job, 'failed')
  redis.call('ZREM', key.schedule, job.id)
  redis.call('ZREM', key.expiry, job.id)
end
