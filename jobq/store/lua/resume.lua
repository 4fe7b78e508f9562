#!lua flags=allow-oom
-- resume: jobs of this queue are claimed again.
-- @args queue
-- @include ready
redis.call('SREM', key.paused, queue)
mark(queue)
return 'ok'
