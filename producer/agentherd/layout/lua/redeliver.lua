-- redeliver: put a message that a worker took and never acknowledged back into its queue.
-- KEYS[1] unacked: kombu's messages in workers' hands, by delivery tag
-- KEYS[2] unacked_index: their tags by time of delivery (s)
-- KEYS[3] queue: the list it came from
-- ARGV[1] tag: the delivery's
-- ARGV[2] delivered_at_s: when it was delivered, as we saw it (s)
-- ARGV[3] message: it
-- Reply: 1 put back | 0 it was acknowledged, or delivered again, meanwhile
local at_s = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not at_s or tonumber(at_s) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[3]) -- next in turn: who waits for it has waited
return 1
