-- breaker_trip: the model API refused the fleet's key to a running job.
-- KEYS[1] breaker: whether the API refuses the fleet, and why
-- KEYS[2] record: the job's hash
-- ARGV[1] fence: the caller's token
-- ARGV[2] kind: the FailureKind
-- ARGV[3] message: the API's words
-- ARGV[4] worker: who tells
-- ARGV[5] probe_ms: from now until a job is tried (ms)
-- Reply: {"open", breaker as a flat list}: no job would succeed, and the breaker is open now
-- Reply: {"job"}: others succeeded since this job was refused before: it is the job's own fault
-- Reply: {"stale"}: the caller's lease is gone
local held = redis.call('HMGET', KEYS[2], 'state', 'fence', 'refused_at_ms')
if held[1] ~= 'running' or held[2] ~= ARGV[1] then
  return {'stale'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_ms = string.format('%.0f', now)
local breaker = redis.call('HMGET', KEYS[1], 'open', 'closed_at_ms')
if held[3] and tonumber(held[3]) <= tonumber(breaker[2] or '0') then
  return {'job'}
end
redis.call('HSET', KEYS[2], 'refused_at_ms', now_ms)
if breaker[1] ~= '1' then
  redis.call('HSET', KEYS[1], 'open', 1, 'opened_at_ms', now_ms)
end
redis.call('HSET', KEYS[1], 'kind', ARGV[2], 'message', ARGV[3], 'worker', ARGV[4],
  'next_probe_ms', string.format('%.0f', now + tonumber(ARGV[5])))
return {'open', redis.call('HGETALL', KEYS[1])}
