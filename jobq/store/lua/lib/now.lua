-- now: the server's clock, integer ms. One reading serves the whole call.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
