#!lua flags=allow-oom
-- pause: no job of this queue is claimed until `resume`. Those that run go on.
-- @args queue
redis.call('SADD', key.paused, queue)
return 'ok'
