-- breaker_look: how the breaker stands; where it is open, perhaps leave to try one job.
-- KEYS[1] breaker: whether the API refuses the fleet, and why
-- ARGV[1] worker: who asks
-- ARGV[2] wants: 1 where the worker could take a job
-- ARGV[3] probe_ms: how long nobody else may try one (ms)
-- Reply: {1 if the worker may try one job, breaker as a flat list}
local breaker = redis.call('HMGET', KEYS[1], 'open', 'next_probe_ms')
local granted = 0
if breaker[1] == '1' and ARGV[2] == '1' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if tonumber(breaker[2]) <= now then
    redis.call('HSET', KEYS[1], 'prober', ARGV[1],
      'next_probe_ms', string.format('%.0f', now + tonumber(ARGV[3])))
    granted = 1
  end
end
return {granted, redis.call('HGETALL', KEYS[1])}
