#!lua flags=allow-oom
-- prune: forget finished jobs of one status: those older than `max_age` ms, and the oldest beyond `keep` unless younger than
-- `min_age`. Up to 100 a call. Answers how many: 100 means call again at once.
-- @args status max_age keep min_age
-- @include now int head erase
local index = key.index .. status
local ids = redis.call('ZRANGEBYSCORE', index, '-inf', int(now - max_age), 'LIMIT', '0', '100')
local surplus = redis.call('ZCARD', index) - #ids - keep
if #ids == 0 and surplus > 0 then
  ids = redis.call('ZRANGEBYSCORE', index, '-inf', int(now - min_age), 'LIMIT', '0', int(math.min(surplus, 100)))
end
for _, id in ipairs(ids) do
  local text = redis.pcall('GET', key.job .. id)
  local job = type(text) == 'string' and read_head(text, id)
  -- A record that is not what the index says was written by somebody else: it is not ours to delete.
  if job and job.status == status then
    erase(id)
  end
end
if #ids > 0 then
  redis.call('ZREM', index, unpack(ids))
end
return #ids
