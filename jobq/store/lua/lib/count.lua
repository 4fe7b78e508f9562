-- count: what happened in a queue in this slot of ten seconds: `in`, `completed`, `failed`, `cancelled`, `retried`, `lost`.
local function count(queue, word, number)
  local slot = key.stats .. int(math.floor(now / 10000))
  -- pcall: what somebody else keeps under that name costs the statistics, not the batch.
  if redis.pcall('HINCRBY', slot, queue .. '|' .. word, number) == number then
    redis.call('EXPIRE', slot, '3600')
  end
end
