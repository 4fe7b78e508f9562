#!lua
-- retry: failed | cancelled -> pending, by hand: to the back of its queue with fresh budgets for errors and losses.
-- `attempt` is the one the caller saw: a pending job with that attempt and fresh budgets has been retried by this very
-- call, whose reply was lost. Answers a verdict and the status: `ok`, `repeat`, `state`, `missing`, `foreign`.
-- @args id attempt
-- @include now head ready remember
local text = redis.pcall('GET', key.job .. id)
if not text then return {'missing', ''} end
if type(text) ~= 'string' then return {'corrupt', ''} end
local job = read_head(text, id)
if not job then return {'foreign', ''} end

if job.status == 'pending' and job.attempt == tonumber(attempt) and job.retries == 0 and job.lost == 0 then
  return {'repeat', job.status}
end
if job.status ~= 'failed' and job.status ~= 'cancelled' then
  return {'state', job.status}
end
redis.call('ZREM', key.index .. job.status, id)
redis.call('DEL', key.job .. id .. ':result')
remember(job, job.status)
job.status, job.retries, job.lost = 'pending', 0, 0
job.expires_at, job.run_at, job.started_at, job.worker, job.finished_at = nil, nil, nil, nil, nil
redis.call('SET', key.job .. id, write_head(job))
make_ready('RPUSH', job)
return {'ok', job.status}
