-- claim: pending -> processing, for up to `want` jobs. A part of pump, which is its only caller.
-- Reads everything it will judge before it writes; ids leave a list only after that.
-- @include now int head ready expire quarantine
local UUID = '^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$'
local MOST_LOOKED_AT = 400

-- One word on what to do with a listed id. A record with another head than ours (a foreign producer's) is claimed as it
-- is: its holder reads it, and adopts, drops or quarantines it under its token.
local function judge(id, record, held, job, list)
  if not string.find(id, UUID) or id ~= string.lower(id) then return 'illegal' end
  if held then return 'stale' end
  if not record then return redis.call('ZSCORE', key.erased, id) and 'stale' or 'missing' end
  if not job then return 'claim' end
  if job.status ~= 'pending' then return 'stale' end
  if job.id ~= id then return 'illegal' end
  if ready(job.queue, job.priority) ~= list then return 'misplaced' end
  if job.expires_at and tonumber(job.expires_at) <= now then return 'expired' end
  if job.run_at and tonumber(job.run_at) > now then return 'early' end
  return 'claim'
end

-- What happens to an id that is not claimed. All of these keep the job: `stale` entries belong to jobs that are over,
-- running, or listed again.
local ASIDE = {
  stale = function() end,
  expired = function(id, job) expire(job) end,
  early = function(id, job) redis.call('ZADD', key.schedule, 'NX', job.run_at, id) end,
  misplaced = function(id, job) make_ready('RPUSH', job) end,
  illegal = function(id) quarantine(id, 'not a job id') end,
  missing = function(id, job, place) redis.call('ZADD', key.missing, 'NX', int(now), place .. ':' .. id) end,
}

local function read_listed(ids)
  local wanted = {}
  for _, id in ipairs(ids) do
    wanted[#wanted + 1] = key.job .. id
    wanted[#wanted + 1] = key.job .. id .. ':payload'
  end
  return redis.call('MGET', unpack(wanted)), redis.call('HMGET', key.running, unpack(ids))
end

local function take(queue, priority, ids, holder, claims)
  local list = ready(queue, priority)
  local texts, held = read_listed(ids)
  local leases, running, records, seen = {}, {}, {}, {}
  local verdicts, jobs = {}, {}
  for i, id in ipairs(ids) do
    local text = texts[2 * i - 1]
    jobs[i] = text and read_head(text)
    verdicts[i] = judge(id, text, held[i] or seen[id], jobs[i], list)
    seen[id] = true
  end

  redis.call('LPOP', list, #ids)
  for i, id in ipairs(ids) do
    local job = jobs[i]
    if verdicts[i] ~= 'claim' then
      ASIDE[verdicts[i]](id, job, queue .. ':' .. string.format('%d', priority))
    else
      local text = texts[2 * i - 1]
      if job then
        job.status, job.attempt, job.started_at, job.worker = 'processing', job.attempt + 1, int(now), holder.worker
        if job.expires_at then
          redis.call('ZREM', key.expiry, id)
          job.expires_at = nil
        end
        text = write_head(job)
        records[#records + 1] = key.job .. id
        records[#records + 1] = text
      end
      holder.count = holder.count + 1
      local token = holder.prefix .. holder.count
      leases[#leases + 1] = int(now + holder.lease)
      leases[#leases + 1] = id
      running[#running + 1] = id
      running[#running + 1] = token
      claims[#claims + 1] = {id, token, text, texts[2 * i]}
    end
  end
  if #records > 0 then redis.call('MSET', unpack(records)) end
  if #running > 0 then
    redis.call('ZADD', key.leases, unpack(leases))
    redis.call('HSET', key.running, unpack(running))
  end
end

-- The default priority first looked for by name, the others only when any is in use: unused ones cost one EXISTS.
local function priorities(queue)
  local names = {}
  for priority = 9, 1, -1 do
    names[#names + 1] = ready(queue, priority)
  end
  return redis.call('EXISTS', unpack(names)) > 0 and 9 or 0
end

-- A paused queue keeps its jobs, and its marks go unanswered: resume marks it again.
local function not_paused(queues)
  local names, open = {}, {}
  for queue in string.gmatch(queues, '[^,]+') do
    names[#names + 1] = queue
  end
  if redis.call('EXISTS', key.paused) == 0 then
    return names
  end
  for i, paused in ipairs(redis.call('SMISMEMBER', key.paused, unpack(names))) do
    if paused == 0 then open[#open + 1] = names[i] end
  end
  return open
end

-- Strict order: all of a queue before the next, the higher priority first. What is left behind is marked again, so that
-- a mark swallowed by a frozen worker costs at most the poll interval.
local function claim(queues, want, holder)
  local claims, looked_at = {}, 0
  for _, queue in ipairs(not_paused(queues)) do
    for priority = priorities(queue), 0, -1 do
      local list = ready(queue, priority)
      while #claims < want and looked_at < MOST_LOOKED_AT do
        local ids = redis.call('LRANGE', list, 0, want - #claims - 1)
        if #ids == 0 then break end
        looked_at = looked_at + #ids
        take(queue, priority, ids, holder, claims)
      end
      if (#claims >= want or looked_at >= MOST_LOOKED_AT) and redis.call('EXISTS', list) == 1 then
        mark(queue)
        return claims
      end
    end
  end
  return claims
end
