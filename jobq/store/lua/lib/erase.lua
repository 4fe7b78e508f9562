-- erase: all that is kept of a job under its own keys.
local function erase(id)
  local name = key.job .. id
  redis.call('UNLINK', name, name .. ':payload', name .. ':result', name .. ':attempts', name .. ':events')
end
