-- requeue: give a running job back, to its queue or to wait for its time, unless it is cancelled.
-- KEYS[1] record: the job's hash
-- KEYS[2] events: the job's stream
-- KEYS[3] leases: running jobs by end of lease (ms)
-- KEYS[4] scheduled: jobs that wait for their time
-- KEYS[5] queue: the list its message goes to
-- KEYS[6] running_index: jobs running, by time of submit
-- KEYS[7] tenant_running_index: the tenant's
-- KEYS[8] to_index: jobs in the state reached
-- KEYS[9] tenant_to_index: the tenant's
-- ARGV[1] job_id: the job's id
-- ARGV[2] fence: the caller's token
-- ARGV[3] delay_ms: how long it waits (ms); 0 puts it into the queue at once
-- ARGV[4] event: data of the `requeued` event as JSON
-- ARGV[5] refund: 1 if the attempt does not count
-- ARGV[6] lease_over: 1 to take it from a lost worker, and only where the lease is over by now
-- Reply: 1 given back | 2 to be ended as cancelled: someone asked for it |
-- Reply: 0 the caller's lease is gone, or with lease_over was renewed
local held = redis.call('HMGET', KEYS[1], 'state', 'fence', 'submitted_at_us', 'attempt', 'message',
  'lease_until_ms', 'cancel_reason')
if held[1] ~= 'running' or held[2] ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[6] == '1' and tonumber(held[6]) > now_ms then
  return 0
end
if held[7] then
  return 2
end
local due_ms = string.format('%.0f', now_ms + tonumber(ARGV[3]))
local job_id = ARGV[1]
redis.call('ZREM', KEYS[3], job_id)
redis.call('ZREM', KEYS[6], job_id)
redis.call('ZREM', KEYS[7], job_id)
redis.call('ZADD', KEYS[8], held[3], job_id)
redis.call('ZADD', KEYS[9], held[3], job_id)
redis.call('PERSIST', KEYS[8])
redis.call('PERSIST', KEYS[9])
if tonumber(ARGV[3]) > 0 then
  redis.call('HSET', KEYS[1], 'state', 'scheduled')
  redis.call('ZADD', KEYS[4], due_ms, job_id)
else
  redis.call('HSET', KEYS[1], 'state', 'queued')
  redis.call('RPUSH', KEYS[5], held[5]) -- next in turn: it has waited for its turn before
end
redis.call('HSET', KEYS[1], 'lease_until_ms', 0, 'released_at_ms', due_ms)
redis.call('HDEL', KEYS[1], 'fence')
redis.call('XADD', KEYS[2], '*', 'kind', 'requeued', 'attempt', held[4], 'data', ARGV[4])
if ARGV[5] == '1' then
  redis.call('HINCRBY', KEYS[1], 'attempt', -1)
end
return 1
