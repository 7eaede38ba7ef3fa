-- cancel: ask whoever runs a job to end it.
-- KEYS[1] record: the job's hash
-- KEYS[2] events: the job's stream
-- KEYS[3] cancellations: the channel that workers listen to
-- ARGV[1] job_id: the job's id
-- ARGV[2] reason: for a person; may be empty
-- ARGV[3] event: data of the `cancelling` event as JSON
-- Reply: 1 asked, now or before | 0 the job does not run
local known = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'cancel_reason')
if known[1] ~= 'running' then
  return 0
end
if not known[3] then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'cancel_reason', ARGV[2], 'cancel_requested_at_ms',
    string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
  redis.call('XADD', KEYS[2], '*', 'kind', 'cancelling', 'attempt', known[2], 'data', ARGV[3])
end
-- May be refused to this user, or reach nobody: the next renewal of the lease tells it anyway.
redis.pcall('PUBLISH', KEYS[3], ARGV[1])
return 1
