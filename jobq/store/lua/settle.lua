-- settle: processing -> completed | failed | cancelled, or back to pending. A part of pump, which is its only caller.
-- Only the holder of the token may settle. Per job: `ok`; `repeat` when this attempt was already settled (its reply was
-- lost); `stale` when the lease was taken away meanwhile.
-- @include now int head ready announce count finish remember lose quarantine

-- What becomes of a job that is not over. `body` is the reason of a quarantine.
local BACK = {
  retry = function(job, due, body)
    remember(job, 'retry')
    count(job.queue, 'retried', 1)
    job.started_at, job.worker, job.finished_at = nil, nil, nil
    job.status, job.run_at = 'pending', due ~= '' and due or nil
    redis.call('SET', key.job .. job.id, write_head(job))
    if job.run_at then
      redis.call('ZADD', key.schedule, job.run_at, job.id)
    else
      make_ready('RPUSH', job)
    end
  end,
  lose = lose,
  release = function(job)
    remember(job, 'release')
    job.started_at, job.worker, job.status = nil, nil, 'pending'
    redis.call('SET', key.job .. job.id, write_head(job))
    make_ready('LPUSH', job)
  end,
  park = function(job)
    job.started_at, job.worker, job.status = nil, nil, 'pending'
    redis.call('SET', key.job .. job.id, write_head(job))
    redis.call('RPUSH', key.parked .. job.task, job.id)
    redis.call('SADD', key.lots, job.task)
  end,
}

-- The attempt is settled already iff the record has the same attempt and losses and is no longer processing: an attempt
-- number is given out once, and a reaped attempt shows one loss more. One that was lost with its process and reaped
-- meanwhile reads as settled too, and rightly: the loss is counted, once.
local function settled_before(id, record)
  local mine, text = read_head(record), redis.pcall('GET', key.job .. id)
  local current = type(text) == 'string' and read_head(text, id)
  return mine and current and current.status ~= 'processing'
    and current.attempt == mine.attempt and current.lost == mine.lost
end

-- Only for statistics, so the whole head need not be read.
local QUEUE = '^{"job_id":"[^"]+","task":"[^"]+","status":"%l+","retries":%d+,"attempt":%d+,"lost":%d+'
  .. ',"created_at":%d+,"queue":"([^"]+)"'

local function settle(rows, result_ttl)
  local ids, verdicts = {}, {}
  for _, row in ipairs(rows) do
    ids[#ids + 1] = row.id
  end
  if #ids == 0 then
    return verdicts
  end
  local held = redis.call('HMGET', key.running, unpack(ids))
  local cancels = redis.call('EXISTS', key.cancel) == 1 and redis.call('HMGET', key.cancel, unpack(ids)) or {}
  local completed, records, index, over, heard, by_queue = {}, {}, {}, {}, {}, {}

  for i, row in ipairs(rows) do
    if held[i] ~= row.token then
      verdicts[i] = settled_before(row.id, row.record) and 'repeat' or 'stale'
    else
      verdicts[i] = 'ok'
      over[#over + 1] = row.id
      local goes_on = false
      if row.outcome == 'complete' then
        completed[#completed + 1] = row.id
        records[#records + 1] = key.job .. row.id
        records[#records + 1] = row.record
        index[#index + 1] = int(now)
        index[#index + 1] = row.id
        local queue = string.match(row.record, QUEUE) or 'default'
        by_queue[queue] = (by_queue[queue] or 0) + 1
        if row.body ~= '' then
          redis.call('SET', key.job .. row.id .. ':result', row.body, 'PX', result_ttl)
        end
      elseif row.outcome == 'quarantine' then
        quarantine(row.id, row.body)
      elseif row.outcome ~= 'drop' then
        local job = read_head(row.record)
        if not job then
          -- A foreign record, released before it was adopted: it goes back as it is, a cancel with it.
          make_ready('LPUSH', {id = row.id, queue = 'default', priority = 0})
          goes_on = true
        elseif cancels[i] then
          finish(job, 'cancelled')
        elseif BACK[row.outcome] then
          BACK[row.outcome](job, row.due)
        else
          finish(job, row.outcome == 'cancel' and 'cancelled' or 'failed')
        end
      end
      if cancels[i] and not goes_on then heard[#heard + 1] = row.id end
    end
  end

  if #completed > 0 then
    redis.call('MSET', unpack(records))
    redis.call('ZADD', key.index .. 'completed', unpack(index))
    for queue, number in pairs(by_queue) do
      count(queue, 'completed', number)
    end
    announce('completed', completed)
  end
  if #over > 0 then
    redis.call('HDEL', key.running, unpack(over))
    redis.call('ZREM', key.leases, unpack(over))
    if #heard > 0 then redis.call('HDEL', key.cancel, unpack(heard)) end
    if redis.call('EXISTS', key.progress) == 1 then redis.call('HDEL', key.progress, unpack(over)) end
  end
  return verdicts
end
