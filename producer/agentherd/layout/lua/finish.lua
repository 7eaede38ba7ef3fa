-- finish: end a job for good, if the caller still holds it, nobody ever did, or its lease is over.
-- KEYS[1] record: the job's hash
-- KEYS[2] events: the job's stream
-- KEYS[3] artifacts: name -> bytes
-- KEYS[4] leases: running jobs by end of lease (ms)
-- KEYS[5] scheduled: jobs that wait for their time
-- KEYS[6] session_owner: the live job of the session
-- KEYS[7] from_index: jobs in the state left, by time of submit
-- KEYS[8] tenant_from_index: the tenant's
-- KEYS[9] to_index: jobs in the state reached
-- KEYS[10] tenant_to_index: the tenant's
-- KEYS[11] peaks: what the last ended jobs of the queue took, the newest first
-- KEYS[12] to_expiries: jobs of to_index by the time their record goes (ms)
-- KEYS[13] tenant_to_expiries: those of tenant_to_index
-- KEYS[14] checkpoint: the stored workspace
-- KEYS[15] queue: the list of its message
-- ARGV[1] job_id: the job's id
-- ARGV[2] fence: the caller's token; empty for a job that is not running
-- ARGV[3] from_state: the state it must be in
-- ARGV[4] to_state: the state it ends in
-- ARGV[5] result: the JobResult as JSON, without its time of end
-- ARGV[6] event: data of the `ended` event as JSON
-- ARGV[7] retention_ms: how long the record is kept (ms)
-- ARGV[8] peak: what it took, as JSON; empty for a job that never ran
-- ARGV[9] max_peaks: how many peaks are kept (count)
-- ARGV[10] lease_over: 1 where no worker has its message: to end it only if no lease holds it
-- Reply: {"finished", result} | {"stale", state or ""}
local TRIMMED = 100 -- entries of an index that one call removes at most
local held = redis.call('HMGET', KEYS[1], 'state', 'fence', 'submitted_at_us', 'attempt',
  'lease_until_ms', 'message')
if held[1] ~= ARGV[3] or (ARGV[2] ~= '' and held[2] ~= ARGV[2]) then
  return {'stale', held[1] or ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_ms = string.format('%.0f', now)
if ARGV[10] == '1' then
  if tonumber(held[5] or '0') > now then
    return {'stale', held[1]} -- it was renewed meanwhile
  end
  if held[6] then
    -- No worker tells Celery of this end. Who takes the message does; it holds up nobody.
    redis.call('RPUSH', KEYS[15], held[6])
  end
end
local job_id = ARGV[1]
redis.call('HSET', KEYS[1],
  'state', ARGV[4], 'finished_at_ms', now_ms, 'result', ARGV[5], 'lease_until_ms', 0)
redis.call('HDEL', KEYS[1], 'message')
redis.call('UNLINK', KEYS[14])
redis.call('ZREM', KEYS[4], job_id)
redis.call('ZREM', KEYS[5], job_id)
if redis.call('GET', KEYS[6]) == job_id then
  redis.call('DEL', KEYS[6])
end
redis.call('XADD', KEYS[2], '*', 'kind', 'ended', 'attempt', held[4], 'data', ARGV[6])
redis.call('ZREM', KEYS[7], job_id)
redis.call('ZREM', KEYS[8], job_id)
local retention_ms = tonumber(ARGV[7])
for number = 9, 10 do
  -- Each end makes room for itself: what leaves is what has no record any more.
  local expiries = number + 3
  local gone = redis.call('ZRANGEBYSCORE', KEYS[expiries], '-inf', now_ms, 'LIMIT', 0, TRIMMED)
  if #gone > 0 then
    redis.call('ZREM', KEYS[number], unpack(gone))
    redis.call('ZREM', KEYS[expiries], unpack(gone))
  end
  redis.call('ZADD', KEYS[number], held[3], job_id)
  redis.call('ZADD', KEYS[expiries], string.format('%.0f', now + retention_ms), job_id)
  if redis.call('PTTL', KEYS[number]) < 2 * retention_ms then -- workers may differ in it
    redis.call('PEXPIRE', KEYS[number], 2 * retention_ms)
    redis.call('PEXPIRE', KEYS[expiries], 2 * retention_ms)
  end
end
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[3]}) do
  redis.call('PEXPIRE', key, retention_ms)
end
if ARGV[8] ~= '' then
  redis.call('LPUSH', KEYS[11], ARGV[8])
  redis.call('LTRIM', KEYS[11], 0, ARGV[9] - 1)
  redis.call('PEXPIRE', KEYS[11], retention_ms)
end
return {'finished', now_ms}
