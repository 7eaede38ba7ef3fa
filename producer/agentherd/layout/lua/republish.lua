-- republish: put the message of a queued job that seems to have none into its queue.
-- KEYS[1] record: the job's hash
-- KEYS[2] queue: the list its message goes to
-- KEYS[3] queued_index: jobs queued, by time of submit
-- ARGV[1] job_id: the job's id
-- ARGV[2] least_age_ms: not if it was released less than this ago (ms): its message is on its way
-- ARGV[3] pause_ms: not if it was published again less than this ago (ms)
-- Reply: 1 published | 0 not now, or it is not queued
local known = redis.call('HMGET', KEYS[1], 'state', 'message', 'released_at_ms', 'republished_at_ms')
if not known[1] then
  redis.call('ZREM', KEYS[3], ARGV[1])
end
if known[1] ~= 'queued' or not known[2] then
  return 0
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if now_ms - known[3] < tonumber(ARGV[2]) or now_ms - (known[4] or 0) < tonumber(ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[1], 'republished_at_ms', string.format('%.0f', now_ms))
redis.call('RPUSH', KEYS[2], known[2]) -- next in turn: it has waited
return 1
