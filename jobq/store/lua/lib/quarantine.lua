-- quarantine: set an id aside that nobody can run, with the reason. Bounded: a flood of garbage must not fill the memory.
local function quarantine(id, reason)
  if redis.call('HLEN', key.quarantine) < 10000 then
    redis.call('HSET', key.quarantine, string.sub(id, 1, 64), reason)
  end
end
