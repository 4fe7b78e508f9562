#!lua flags=allow-oom
-- leave: a worker that has stopped.
-- @args worker
redis.call('UNLINK', key.worker .. worker, key.order .. worker)
redis.call('ZREM', key.workers, worker)
return 'ok'
