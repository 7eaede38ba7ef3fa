-- set_aside: let an entry of an index that nothing can be done about not hold up those behind it.
-- KEYS[1] index: jobs by time (ms)
-- KEYS[2] record: the job's hash
-- ARGV[1] job_id: the job's id
-- ARGV[2] delay_ms: it is looked at again after this (ms)
-- Reply: 1 set aside | 0 nothing to do: its time has not come any more | -1 removed: no such job
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return -1
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local at_ms = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not at_ms or tonumber(at_ms) > now_ms then
  return 0
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + ARGV[2]), ARGV[1])
return 1
