-- claim: give a queued job to one worker, with a lease and a fencing token.
-- KEYS[1] record: the job's hash
-- KEYS[2] leases: running jobs by end of lease (ms)
-- KEYS[3] fence_counter: the last token given out
-- KEYS[4] events: the job's stream
-- KEYS[5] queued_index: jobs queued, by time of submit
-- KEYS[6] tenant_queued_index: the tenant's
-- KEYS[7] running_index: jobs running, by time of submit
-- KEYS[8] tenant_running_index: the tenant's
-- KEYS[9] artifacts: what an attempt before kept
-- ARGV[1] job_id: the job's id
-- ARGV[2] worker: who claims
-- ARGV[3] lease_ms: how long the claim holds without renewal (ms)
-- Reply: {"claimed", fence, record as a flat list} | {"refused", state} | {"expired"} | {"unknown"}
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
local known = redis.call('HMGET', KEYS[1], 'state', 'expires_at_ms', 'submitted_at_us', 'started_at_ms')
local state = known[1]
if not state then
  return {'unknown'}
end
if state ~= 'queued' then
  return {'refused', state}
end
if tonumber(known[2]) > 0 and tonumber(known[2]) <= now_ms and not known[4] then
  return {'expired'}
end
-- From the clock, so that none comes twice where Redis lost its last second. Below 2^53.
local fence = string.format('%.0f', math.max(tonumber(redis.call('GET', KEYS[3]) or '0') + 1, now_us))
redis.call('SET', KEYS[3], fence)
local lease_until_ms = string.format('%.0f', now_ms + tonumber(ARGV[3]))
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1],
  'state', 'running', 'fence', fence, 'worker', ARGV[2], 'lease_until_ms', lease_until_ms)
redis.call('HSETNX', KEYS[1], 'started_at_ms', string.format('%.0f', now_ms))
redis.call('UNLINK', KEYS[9])
redis.call('ZADD', KEYS[2], lease_until_ms, ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZADD', KEYS[7], known[3], ARGV[1])
redis.call('ZADD', KEYS[8], known[3], ARGV[1])
redis.call('PERSIST', KEYS[7])
redis.call('PERSIST', KEYS[8])
redis.call('XADD', KEYS[4], '*', 'kind', 'started', 'attempt', attempt,
  'data', cjson.encode({worker = ARGV[2], resumed = known[4] ~= false}))
return {'claimed', fence, redis.call('HGETALL', KEYS[1])}
