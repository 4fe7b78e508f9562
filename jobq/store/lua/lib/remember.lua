-- remember: keep what an attempt was, before the record forgets it. Written only when an attempt was not the last.
-- @include int
local function remember(job, outcome)
  if job.attempt == 0 then return end
  local line = {'{"attempt":', int(job.attempt), ',"outcome":"', outcome, '","finished_at":', job.finished_at or int(now)}
  if job.started_at then line[#line + 1] = ',"started_at":' .. job.started_at end
  if job.worker then line[#line + 1] = ',"worker":"' .. job.worker .. '"' end
  if job.error then line[#line + 1] = ',"error":' .. job.error end
  line[#line + 1] = '}'
  local attempts = key.job .. job.id .. ':attempts'
  -- pcall: what somebody else keeps under that name costs the history, not the batch.
  redis.pcall('RPUSH', attempts, table.concat(line))
  redis.pcall('LTRIM', attempts, '-100', '-1')
end
