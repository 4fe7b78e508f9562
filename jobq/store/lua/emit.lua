#!lua flags=allow-oom
-- emit: progress and log of a running job, by the holder of its token. Entries are numbered within the attempt, and their
-- stream id is `attempt-number`: the same call twice equals once. Answers `ok` or `stale`.
-- @args id token attempt
-- @rows number kind data
-- @include now int
if redis.call('HGET', key.running, id) ~= token then
  return 'stale'
end
local stream = key.job .. id .. ':events'
for row = first_row, #ARGV, row_width do
  local number, kind, data = unpack(ARGV, row, row + row_width - 1)
  -- An error here is an entry that was written before.
  redis.pcall('XADD', stream, 'MAXLEN', '~', '1000', attempt .. '-' .. number, 'at', int(now), 'kind', kind, 'data', data)
  if kind == 'progress' then
    redis.call('HSET', key.progress, id, data)
  end
end
return 'ok'
