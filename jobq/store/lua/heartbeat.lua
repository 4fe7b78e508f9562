#!lua flags=allow-oom
-- heartbeat: extend the leases that are still held. Per job a pair: `ok`, or `lost`, or `cancel`; and the cancel's reason.
-- @args lease
-- @rows id token
-- @include now int
local ids = {}
for row = first_row, #ARGV, row_width do
  ids[#ids + 1] = ARGV[row]
end
local held = redis.call('HMGET', key.running, unpack(ids))
local cancels = redis.call('EXISTS', key.cancel) == 1 and redis.call('HMGET', key.cancel, unpack(ids)) or {}
local verdicts, leases = {}, {}
for i, id in ipairs(ids) do
  if held[i] == ARGV[first_row + (i - 1) * row_width + 1] then
    leases[#leases + 1] = int(now + lease)
    leases[#leases + 1] = id
    verdicts[i] = {cancels[i] and 'cancel' or 'ok', cancels[i] or ''}
  else
    verdicts[i] = {'lost', ''}
  end
end
if #leases > 0 then
  redis.call('ZADD', key.leases, 'XX', unpack(leases))
end
return verdicts
