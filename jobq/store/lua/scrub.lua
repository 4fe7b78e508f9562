#!lua flags=allow-oom
-- scrub: repairs what records and indexes disagree on. Every change of a job is one script, so that whatever disagrees here
-- was done from outside. All workers share one pass, over the records and then over what is kept of running jobs: a call goes
-- on where the last one ended, for about `longest` ms, unless that was less than `pace` ms ago.
-- Answers pairs of id and what was done. What is in order, and what cannot be told, is left alone.
-- @args longest lease pace
-- @include now int head ready finish
local STATUS = '^{"job_id":"[^"]+","task":"[^"]+","status":"(%l+)"'
local MOST_SEARCHED = 1000
local PAGE = 50
local OVER = {completed = key.index .. 'completed', failed = key.index .. 'failed', cancelled = key.index .. 'cancelled'}
local repaired = {}

local function note(id, what)
  repaired[#repaired + 1] = {id, what}
end

-- After the server's clock was set back a dead worker's lease would hold for as long. A live one renews within a second,
-- though its own lease may be longer than ours.
local function shorten_leases()
  local limit = '(' .. int(now + 2 * lease + 1000)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key.leases, limit, '+inf', 'LIMIT', '0', '100')) do
    redis.call('ZADD', key.leases, int(now + math.max(tonumber(lease), 2000)), id)
    note(id, 'lease shortened')
  end
end

-- Whether the id is on this list; nil when that takes too long to find out.
local function on_list(list, id)
  local length = redis.pcall('LLEN', list)
  if type(length) ~= 'number' or length > MOST_SEARCHED then return nil end
  return length > 0 and redis.call('LPOS', list, id) ~= false
end

-- No number with more digits than a time in ms has: the server takes any as a score but those that it cannot read.
local function time(text)
  return text and #text < 16 and tonumber(text) or nil
end

local function set_aside(id)
  return redis.call('HEXISTS', key.quarantine, id) == 1
end

-- Who holds the token goes on; whoever has lost it does not, and the reaper gives the job back and counts the loss.
local function mend_lease(id, is)
  if is.token and not is.lease then
    redis.call('ZADD', key.leases, int(now + lease), id)
    note(id, 'lease renewed')
  elseif not is.token and (not is.lease or is.lease > now) then
    redis.call('ZADD', key.leases, int(now), id)
    note(id, 'lease ended')
  end
end

local function let_go(id, is)
  if is.token or is.lease or is.cancel or is.progress then
    redis.call('HDEL', key.running, id)
    redis.call('ZREM', key.leases, id)
    redis.call('HDEL', key.cancel, id)
    redis.call('HDEL', key.progress, id)
    note(id, 'let go')
  end
end

-- `score` nil: it does not belong there.
local function mend_score(id, set, found, score, what)
  if found == score then return end
  if score then
    redis.call('ZADD', set, int(score), id)
  else
    redis.call('ZREM', set, id)
  end
  note(id, what)
end

local function mend_index(job, is)
  for status, set in pairs(OVER) do
    local wanted = status == job.status and (is[status] or time(job.finished_at) or now) or nil
    mend_score(job.id, set, is[status], wanted, 'index')
  end
end

-- The parking lot, the schedule, or its list. Where it is already, it stays.
local function mend_home(job, is)
  local due = time(job.run_at)
  local parked = on_list(key.parked .. job.task, job.id)
  if parked == nil then return end
  local waits = not parked and due and (is.due == due or due > now)
  mend_score(job.id, key.schedule, is.due, waits and due or nil, 'schedule')
  if not parked and not waits and on_list(ready(job.queue, job.priority), job.id) == false and not set_aside(job.id) then
    make_ready('RPUSH', job)
    note(job.id, 'listed')
  end
end

local function mend(job, is)
  if job.status == 'pending' and is.cancel then
    -- It was asked while the job seemed to run.
    if on_list(key.parked .. job.task, job.id) then redis.call('LREM', key.parked .. job.task, '0', job.id) end
    finish(job, 'cancelled')
    is.cancelled = now
  end
  if job.status == 'processing' then
    if is.token or is.lease or not set_aside(job.id) then mend_lease(job.id, is) end
  else
    let_go(job.id, is)
  end
  mend_index(job, is)
  local pending = job.status == 'pending'
  mend_score(job.id, key.expiry, is.expires, pending and time(job.expires_at) or nil, 'expiry')
  if pending then
    mend_home(job, is)
  else
    mend_score(job.id, key.schedule, is.due, nil, 'schedule')
  end
end

-- Of a record that is not ours nothing is known but what is kept of its attempt.
local function mend_foreign(id, is)
  if is.token or is.lease then
    mend_lease(id, is)
  elseif is.progress then
    redis.call('HDEL', key.progress, id)
    note(id, 'let go')
  end
end

-- Members and scores of a page of ids, by word: what is not there is false.
local function read(ids)
  local found = {
    token = redis.call('HMGET', key.running, unpack(ids)),
    cancel = redis.call('HMGET', key.cancel, unpack(ids)),
    progress = redis.call('HMGET', key.progress, unpack(ids)),
    lease = redis.call('ZMSCORE', key.leases, unpack(ids)),
    due = redis.call('ZMSCORE', key.schedule, unpack(ids)),
    expires = redis.call('ZMSCORE', key.expiry, unpack(ids)),
  }
  for status, set in pairs(OVER) do
    found[status] = redis.call('ZMSCORE', set, unpack(ids))
  end
  return found
end

-- Most jobs are over, or run, as they should: that is seen without reading the whole head.
local function in_order(text, found, i)
  if found.cancel[i] or found.progress[i] or found.due[i] or found.expires[i] then return false end
  local status = string.match(text, STATUS)
  local token, lease = found.token[i], found.lease[i]
  local completed, failed, cancelled = found.completed[i], found.failed[i], found.cancelled[i]
  if status == 'completed' then return completed and not (failed or cancelled or token or lease) end
  if status == 'failed' then return failed and not (completed or cancelled or token or lease) end
  if status == 'cancelled' then return cancelled and not (completed or failed or token or lease) end
  return status == 'processing' and token and lease and not (completed or failed or cancelled)
end

local function mend_any(id, text, found, i)
  local is = {token = found.token[i], cancel = found.cancel[i], progress = found.progress[i]}
  for _, word in ipairs({'lease', 'due', 'expires', 'completed', 'failed', 'cancelled'}) do
    is[word] = found[word][i] and tonumber(found[word][i]) or nil
  end
  local job = text and read_head(text, id)
  if job and (OVER[job.status] or job.status == 'pending' or job.status == 'processing') then
    mend(job, is)
  elseif text then
    mend_foreign(id, is)
  elseif not (is.token and is.lease) then
    let_go(id, is)
  end
end

local function look(ids)
  if #ids == 0 then return end
  local names, seen = {}, {}
  for i, id in ipairs(ids) do
    names[i] = key.job .. id
  end
  local texts, found = redis.call('MGET', unpack(names)), read(ids)
  for i, id in ipairs(ids) do
    -- A walk may come upon a key twice, and what was read of it is not true any more.
    if not seen[id] and not (texts[i] and in_order(texts[i], found, i)) then
      mend_any(id, texts[i], found, i)
    end
    seen[id] = true
  end
end

-- Of a set about jobs that run, the members that the other does not know: the others' records were seen by the first walk.
local function strays(command, set, find, other, cursor)
  local answer, ids = redis.call(command, set, cursor, 'COUNT', PAGE), {}
  for i = 1, #answer[2], 2 do
    local id = answer[2][i]
    if not redis.call(find, other, id) then ids[#ids + 1] = id end
  end
  return answer[1], ids
end

local UUID = string.gsub('xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx', 'x', '?')
local WALKS = {
  function(cursor)
    local answer, ids = redis.call('SCAN', cursor, 'MATCH', key.job .. UUID, 'COUNT', PAGE), {}
    for i, name in ipairs(answer[2]) do
      ids[i] = string.sub(name, #key.job + 1)
    end
    return answer[1], ids
  end,
  function(cursor) return strays('HSCAN', key.running, 'ZSCORE', key.leases, cursor) end,
  function(cursor) return strays('ZSCAN', key.leases, 'HGET', key.running, cursor) end,
  function(cursor) return strays('HSCAN', key.cancel, 'HGET', key.running, cursor) end,
  function(cursor) return strays('HSCAN', key.progress, 'HGET', key.running, cursor) end,
}

local state = redis.pcall('GET', key.scrub)
local walk, cursor, last = string.match(type(state) == 'string' and state or '', '^([1-5]):(%d+):(%d+)$')
walk, cursor = tonumber(walk or 1), cursor or '0'
local passed = last and now - tonumber(last)
if passed and passed >= 0 and passed < tonumber(pace) then
  return repaired
end

shorten_leases()
-- The server's own TIME stands still while a script runs.
local began = os.clock()
repeat
  local ids
  cursor, ids = WALKS[walk](cursor)
  look(ids)
  if cursor == '0' then walk = walk % #WALKS + 1 end
until walk == 1 and cursor == '0' or (os.clock() - began) * 1000 >= tonumber(longest)
redis.call('SET', key.scrub, walk .. ':' .. cursor .. ':' .. int(now))
return repaired
