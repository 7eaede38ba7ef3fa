-- release: put one scheduled job into its queue. A second release of it does nothing.
-- KEYS[1] record: the job's hash
-- KEYS[2] events: the job's stream
-- KEYS[3] scheduled: jobs that wait for their time (ms)
-- KEYS[4] queue: the list its message goes to
-- KEYS[5] scheduled_index: jobs scheduled, by time of submit
-- KEYS[6] tenant_scheduled_index: the tenant's
-- KEYS[7] queued_index: jobs queued, by time of submit
-- KEYS[8] tenant_queued_index: the tenant's
-- ARGV[1] job_id: the job's id
-- Reply: 1 released | 0 not scheduled, or gone | an error where the record lacks a field
local job_id = ARGV[1]
local known = redis.call('HMGET', KEYS[1], 'state', 'submitted_at_us', 'message', 'attempt')
if known[1] == 'scheduled' and not (known[2] and known[3] and known[4]) then
  return redis.error_reply('the record is damaged')
end
redis.call('ZREM', KEYS[3], job_id)
if known[1] ~= 'scheduled' then
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', 'queued', 'released_at_ms',
  string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
redis.call('ZREM', KEYS[5], job_id)
redis.call('ZREM', KEYS[6], job_id)
redis.call('ZADD', KEYS[7], known[2], job_id)
redis.call('ZADD', KEYS[8], known[2], job_id)
redis.call('PERSIST', KEYS[7])
redis.call('PERSIST', KEYS[8])
redis.call('LPUSH', KEYS[4], known[3])
redis.call('XADD', KEYS[2], '*', 'kind', 'released', 'attempt', known[4], 'data', '{}')
return 1
