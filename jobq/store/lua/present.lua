#!lua flags=allow-oom
-- present: a worker says that it is there, and what it is (`about`, JSON). Forgotten after `ttl` ms without.
-- Answers what somebody ordered it to do: `quiet`, `stop`, or nothing.
-- @args worker about ttl
-- @include now int
redis.call('SET', key.worker .. worker, about, 'PX', ttl)
redis.call('ZREMRANGEBYSCORE', key.workers, '-inf', int(now - ttl))
redis.call('ZADD', key.workers, int(now), worker)
return redis.call('GET', key.order .. worker) or ''
