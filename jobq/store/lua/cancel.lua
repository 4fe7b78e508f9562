#!lua flags=allow-oom
-- cancel: pending -> cancelled at once (its list entry stays and claim skips it); of a running job: ask its worker.
-- Answers a verdict and the status found: `ok`, `requested`, `repeat` (already cancelled), `state` (over), `missing`,
-- `foreign` (adopt it first). `error` is the record's error member, ready made.
-- @args id reason error
-- @include now finish
local text = redis.pcall('GET', key.job .. id)
if not text then return {'missing', ''} end
if type(text) ~= 'string' then return {'corrupt', ''} end

if redis.call('HEXISTS', key.running, id) == 1 then
  redis.call('HSETNX', key.cancel, id, reason)
  return {'requested', 'processing'}
end
local job = read_head(text, id)
if not job then return {'foreign', ''} end
if job.status == 'cancelled' then return {'repeat', job.status} end
if job.status ~= 'pending' then return {'state', job.status} end

job.error = error
finish(job, 'cancelled')
redis.call('ZREM', key.schedule, id)
redis.call('ZREM', key.expiry, id)
return {'ok', 'cancelled'}
