-- head: the canonical head of a record, read and written. Everything behind it (`tail`) is copied byte for byte.
-- An error holds no braces inside (job.py escapes them), so that it can be found and replaced without decoding.
-- @include int
local HEAD = '^{"job_id":"([^"]+)","task":"(%l[%l%d_.%-]*)","status":"(%l+)","retries":(%d+),"attempt":(%d+),"lost":(%d+)'
  .. ',"created_at":(%d+)(.*)}$'

-- Of a name, and of a number: a pattern cannot count. The server takes no score that it cannot read as a number.
local MOST_LETTERS, MOST_DIGITS = 64, 15

local OPTIONAL = {
  {'queue', '^,"queue":"(%l[%l%d_.%-]*)"(.*)$', MOST_LETTERS},
  {'priority', '^,"priority":(%d)(.*)$', 1},
  {'expires_at', '^,"expires_at":(%d+)(.*)$', MOST_DIGITS},
  {'run_at', '^,"run_at":(%d+)(.*)$', MOST_DIGITS},
  {'started_at', '^,"started_at":(%d+)(.*)$', MOST_DIGITS},
  {'worker', '^,"worker":"([^"]*)"(.*)$', math.huge},
  {'finished_at', '^,"finished_at":(%d+)(.*)$', MOST_DIGITS},
  {'error', '^,"error":({[^{}]*})(.*)$', math.huge},
}

-- A number or a text that goes on behind what was matched (`12`, `1.5`, `"a\"b"`) was not the member looked for.
local function at_end(rest)
  return rest == '' or string.sub(rest, 1, 1) == ','
end

-- Returns nil for a record with another head: a foreign producer's, until a worker has adopted it. So is one that names
-- another id than `of`, whose record must not be written in its place.
local function read_head(text, of)
  local id, task, status, retries, attempt, lost, created_at, tail = string.match(text, HEAD)
  if not id or id ~= (of or id) or #task > MOST_LETTERS or not at_end(tail)
    or math.max(#retries, #attempt, #lost, #created_at) > MOST_DIGITS then
    return nil
  end
  local job = {
    id = id, task = task, status = status,
    retries = tonumber(retries), attempt = tonumber(attempt), lost = tonumber(lost),
    created_at = created_at,
  }
  if tail ~= '' then
    for _, optional in ipairs(OPTIONAL) do
      local value, rest = string.match(tail, optional[2])
      if value and at_end(rest) and #value <= optional[3] then
        job[optional[1]], tail = value, rest
      end
    end
  end
  job.queue, job.priority = job.queue or 'default', tonumber(job.priority or 0)
  job.tail = tail
  return job
end

local function write_head(job)
  local text = {
    '{"job_id":"', job.id, '","task":"', job.task, '","status":"', job.status, '","retries":', int(job.retries),
    ',"attempt":', int(job.attempt), ',"lost":', int(job.lost), ',"created_at":', job.created_at,
  }
  local function add(...)
    for _, piece in ipairs({...}) do
      text[#text + 1] = piece
    end
  end
  if job.queue ~= 'default' then add(',"queue":"', job.queue, '"') end
  if job.priority ~= 0 then add(',"priority":', int(job.priority)) end
  if job.expires_at then add(',"expires_at":', job.expires_at) end
  if job.run_at then add(',"run_at":', job.run_at) end
  if job.started_at then add(',"started_at":', job.started_at) end
  if job.worker then add(',"worker":"', job.worker, '"') end
  if job.finished_at then add(',"finished_at":', job.finished_at) end
  if job.error then add(',"error":', job.error) end
  add(job.tail, '}')
  return table.concat(text)
end
