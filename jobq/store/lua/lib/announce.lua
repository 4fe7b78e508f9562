-- announce: tell whoever waits that these jobs are over. One entry a call and status; old entries are trimmed.
local function announce(status, ids)
  if #ids > 0 then
    redis.call('XADD', key.events, 'MAXLEN', '~', '10000', '*', 'status', status, 'ids', table.concat(ids, ','))
  end
end
