-- renew: prolong the lease of a running job, if the caller still holds it.
-- KEYS[1] record: the job's hash
-- KEYS[2] leases: running jobs by end of lease (ms)
-- ARGV[1] job_id: the job's id
-- ARGV[2] fence: the caller's token
-- ARGV[3] lease_ms: how long it holds from now (ms)
-- Reply: 1 renewed | 2 renewed, and someone asked to cancel the job |
-- Reply: 0 someone else owns the job, or it has ended
local held = redis.call('HMGET', KEYS[1], 'state', 'fence', 'cancel_reason')
if held[1] ~= 'running' or held[2] ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local lease_until_ms = string.format('%.0f',
  time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'lease_until_ms', lease_until_ms)
redis.call('ZADD', KEYS[2], lease_until_ms, ARGV[1])
return held[3] and 2 or 1
