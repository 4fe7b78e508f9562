-- finish: a job that is over, in its record and in the index that retention works on. Result TTL and events: the caller.
-- @include int head announce count
local function finish(job, status)
  job.status, job.finished_at = status, int(now)
  redis.call('SET', key.job .. job.id, write_head(job))
  redis.call('ZADD', key.index .. status, int(now), job.id)
  count(job.queue, status, 1)
  announce(status, {job.id})
end
