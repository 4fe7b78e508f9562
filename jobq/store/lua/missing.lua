#!lua flags=allow-oom
-- missing: a listed id whose record had not come yet (a producer may push first) -> the front of its queue once the
-- record is there, or quarantine after `patience` ms. Up to 100 a call. Answers the ids given up.
-- @args patience
-- @include now int ready quarantine
local entries = redis.call('ZRANGEBYSCORE', key.missing, '-inf', int(now), 'WITHSCORES', 'LIMIT', '0', '100')
local given_up = {}
for i = 1, #entries, 2 do
  local queue, priority, id = string.match(entries[i], '^(.*):(%d):(.*)$')
  local found = redis.call('TYPE', key.job .. id).ok
  if found == 'string' then
    make_ready('LPUSH', {id = id, queue = queue, priority = tonumber(priority)})
    redis.call('ZREM', key.missing, entries[i])
  elseif tonumber(entries[i + 1]) + patience <= now then
    quarantine(id, found == 'none' and 'no record' or 'record is a ' .. found)
    redis.call('ZREM', key.missing, entries[i])
    given_up[#given_up + 1] = id
  end
end
return given_up
