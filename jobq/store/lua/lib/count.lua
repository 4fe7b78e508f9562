-- count: what happened in a queue in this slot of ten seconds: `in`, `completed`, `failed`, `cancelled`, `retried`, `lost`.
local function count(queue, word, number)
  local slot = key.stats .. int(math.floor(now / 10000))
  if redis.call('HINCRBY', slot, queue .. '|' .. word, number) == number then
    redis.call('EXPIRE', slot, '3600')
  end
end
