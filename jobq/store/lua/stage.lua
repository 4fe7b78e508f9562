#!lua flags=allow-oom
-- stage: due -> queue, up to 100 a call. Answers how many left the schedule: 100 means call again at once.
-- @include now int head ready
local ids = redis.call('ZRANGEBYSCORE', key.schedule, '-inf', int(now), 'LIMIT', '0', '100')
if #ids == 0 then
  return 0
end
local names = {}
for i, id in ipairs(ids) do
  names[i] = key.job .. id
end
for i, text in ipairs(redis.call('MGET', unpack(names))) do
  local job = text and read_head(text, ids[i])
  if job and job.status == 'pending' then
    make_ready('RPUSH', job)
  end
end
redis.call('ZREM', key.schedule, unpack(ids))
return #ids
