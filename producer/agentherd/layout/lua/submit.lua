-- submit: record a job and put its message into its queue, at once or never.
-- KEYS[1] record: the job's hash
-- KEYS[2] idempotency: hash of the job that took the key, or unused
-- KEYS[3] session_owner: the live job of the session
-- KEYS[4] events: the job's stream
-- KEYS[5] queue: the list its message goes to
-- KEYS[6] scheduled: sorted set of jobs that wait for their time
-- KEYS[7] queued_index: jobs queued, by time of submit
-- KEYS[8] tenant_queued_index: the tenant's
-- KEYS[9] scheduled_index: jobs scheduled, by time of submit
-- KEYS[10] tenant_scheduled_index: the tenant's
-- KEYS[11] queue_workers: live workers that consume its queue by the time they are gone (ms)
-- KEYS[12] session: its transcripts, see transcripts.py
-- KEYS[13] vanished_record: the hash of the job `vanished`, or unused
-- KEYS[14] queues: every queue that a job was ever submitted to
-- KEYS[15] expiring: jobs by the time they expire unstarted (ms)
-- ARGV[1] job_id: the job's id
-- ARGV[2] fields: JSON object, the record's fields that don't depend on time
-- ARGV[3] digest: of the job's content
-- ARGV[4] message: the Celery message
-- ARGV[5] not_before_ms: earliest start (ms, Unix time), 0 for now
-- ARGV[6] expires_ms: from now until the job is dropped unstarted (ms), 0 for never
-- ARGV[7] idempotency_ttl_ms: how long the key is remembered (ms), 0 for no key
-- ARGV[8] owns_session: 1 to take the session, 0 for a job that will only be ended
-- ARGV[9] publish: 1 to queue the message, 0 where the caller already has one
-- ARGV[10] begins_session: 1 where the session must not have a transcript yet
-- ARGV[11] vanished: a job that took the key and seems to be gone: where it is, the key is free
-- ARGV[12] queue_name: the Celery queue of its message
-- Reply: {"created", job_id, workers that serve it (count)} | {"exists", job_id, digest} |
-- Reply: {"busy", job_id of the owner} | {"begun"}: the session has a transcript
local A_DAY_MS = 24 * 3600 * 1000
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
local job_id = ARGV[1]

local known = redis.call('HGET', KEYS[1], 'digest')
if known then
  return {'exists', job_id, known}
end
if tonumber(ARGV[7]) > 0 then
  local taken = redis.call('HMGET', KEYS[2], 'job_id', 'digest')
  local gone = taken[1] == ARGV[11] and redis.call('EXISTS', KEYS[13]) == 0
  if taken[1] and not gone then
    return {'exists', taken[1], taken[2]}
  end
end
if ARGV[8] == '1' then
  local owner = redis.call('GET', KEYS[3])
  if owner and owner ~= job_id then
    return {'busy', owner}
  end
  if ARGV[10] == '1' and redis.call('HEXISTS', KEYS[12], 'blocks:') == 1 then
    return {'begun'}
  end
  redis.call('SET', KEYS[3], job_id)
end

local state = 'queued'
if tonumber(ARGV[5]) > now_ms then
  state = 'scheduled'
end
local expires_at_ms = 0
if tonumber(ARGV[6]) > 0 then
  expires_at_ms = now_ms + tonumber(ARGV[6])
  redis.call('ZADD', KEYS[15], string.format('%.0f', expires_at_ms), job_id)
  local life_ms = tonumber(ARGV[6]) + A_DAY_MS -- without any worker, a claim finds out then
  if redis.call('PTTL', KEYS[15]) < life_ms then
    redis.call('PEXPIRE', KEYS[15], life_ms)
  end
end
local flat = {}
for name, value in pairs(cjson.decode(ARGV[2])) do
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end
redis.call('SADD', KEYS[14], ARGV[12])
redis.call('HSET', KEYS[1], unpack(flat))
redis.call('HSET', KEYS[1],
  'state', state, 'digest', ARGV[3], 'message', ARGV[4], 'attempt', 0,
  'submitted_at_us', string.format('%.0f', now_us),
  'released_at_ms', string.format('%.0f', now_ms),
  'expires_at_ms', string.format('%.0f', expires_at_ms))
if tonumber(ARGV[7]) > 0 then
  redis.call('HSET', KEYS[2], 'job_id', job_id, 'digest', ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
end
if state == 'queued' then
  redis.call('ZADD', KEYS[7], now_us, job_id)
  redis.call('ZADD', KEYS[8], now_us, job_id)
  redis.call('PERSIST', KEYS[7])
  redis.call('PERSIST', KEYS[8])
  if ARGV[9] == '1' then
    redis.call('LPUSH', KEYS[5], ARGV[4])
  end
else
  redis.call('ZADD', KEYS[9], now_us, job_id)
  redis.call('ZADD', KEYS[10], now_us, job_id)
  redis.call('PERSIST', KEYS[9])
  redis.call('PERSIST', KEYS[10])
  redis.call('ZADD', KEYS[6], ARGV[5], job_id)
end
redis.call('XADD', KEYS[4], '*', 'kind', 'submitted', 'attempt', 0,
  'data', cjson.encode({state = state, session_id = redis.call('HGET', KEYS[1], 'session_id')}))
return {'created', job_id, redis.call('ZCOUNT', KEYS[11], string.format('%.0f', now_ms), '+inf')}
