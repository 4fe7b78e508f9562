-- int: Lua's own tostring writes ms timestamps as 1.79e+12.
local function int(number)
  return string.format('%.0f', number)
end
