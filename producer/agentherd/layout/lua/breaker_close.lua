-- breaker_close: the model answered a job; the fleet takes jobs again.
-- KEYS[1] breaker: whether the API refuses the fleet, and why
-- ARGV[1] claimed_at_ms: when the job was claimed (ms); one that ran before proves nothing
-- Reply: breaker as a flat list
local breaker = redis.call('HMGET', KEYS[1], 'open', 'opened_at_ms')
if breaker[1] == '1' and tonumber(ARGV[1]) >= tonumber(breaker[2]) then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'open', 0, 'closed_at_ms',
    string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
end
return redis.call('HGETALL', KEYS[1])
