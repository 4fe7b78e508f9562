#!lua flags=allow-oom
-- pump: settle what has finished and claim into the free slots, in one round trip.
-- A lane has one call in flight; `seq` rises by one per call. The same `seq` again means that the reply was lost: settles
-- answer `repeat` by themselves, and what was claimed then and is still held is handed out again; nothing new is claimed.
-- A lower `seq` is a delayed duplicate and is refused. Answers: now, verdicts, claims {id, token, record, payload}.
-- @args worker lane seq lease result_ttl queues want
-- @rows id token outcome record body due
-- @include now int settle claim
local lane_key = key.pump .. worker .. ':' .. lane
local last = redis.call('GET', lane_key)
local last_seq, last_ids = string.match(last or '', '^(%d+):(.*)$')
if last_seq and tonumber(seq) < tonumber(last_seq) then
  return redis.error_reply('JOBQ a later call of this lane was already served')
end

local rows = {}
for row = first_row, #ARGV, row_width do
  local id, token, outcome, record, body, due = unpack(ARGV, row, row + row_width - 1)
  rows[#rows + 1] = {id = id, token = token, outcome = outcome, record = record, body = body, due = due}
end
local verdicts = settle(rows, result_ttl)

local prefix = worker .. '.' .. lane .. '.' .. seq .. '.'
local claims = {}
if last_seq == seq then
  local i = 0
  for id in string.gmatch(last_ids, '[^,]+') do
    i = i + 1
    if redis.call('HGET', key.running, id) == prefix .. i then
      local texts = redis.call('MGET', key.job .. id, key.job .. id .. ':payload')
      claims[#claims + 1] = {id, prefix .. i, texts[1], texts[2]}
    end
  end
  return {now, verdicts, claims}
end

if tonumber(want) > 0 then
  claims = claim(queues, tonumber(want), {worker = worker, prefix = prefix, lease = tonumber(lease), count = 0})
end
local ids = {}
for i, claimed in ipairs(claims) do
  ids[i] = claimed[1]
end
redis.call('SET', lane_key, seq .. ':' .. table.concat(ids, ','), 'PX', int(2 * lease))
return {now, verdicts, claims}
