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
  -- An id that is not above the last one was written before: a late repetition must not set progress back. Any other
  -- error is somebody else's value under that name, which costs the log and nothing else.
  local written = redis.pcall(
    'XADD', stream, 'MAXLEN', '~', '1000', attempt .. '-' .. number, 'at', int(now), 'kind', kind, 'data', data
  )
  local before = type(written) == 'table' and string.find(tostring(written.err), 'equal or smaller', 1, true)
  if kind == 'progress' and not before then
    redis.call('HSET', key.progress, id, data)
  end
end
return 'ok'
