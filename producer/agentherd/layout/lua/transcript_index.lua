-- transcript_index: list a session under its tenant until it expires; drop those that have.
-- KEYS[1] index: the tenant's sessions by the time they expire (ms)
-- ARGV[1] session_id: the session in use
-- ARGV[2] ttl_ms: how long it stays listed from now (ms)
-- Reply: 1 listed
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local expires_ms = string.format('%.0f', now_ms + tonumber(ARGV[2]))
redis.call('ZADD', KEYS[1], 'GT', expires_ms, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
-- Sessions may have different lives: the list outlives the longest.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
