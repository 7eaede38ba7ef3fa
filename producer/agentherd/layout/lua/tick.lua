-- tick: lead the fleet, or stand by to; and learn which jobs the leader has to look after.
-- KEYS[1] leader: the worker that leads
-- KEYS[2] scheduled: jobs that wait for their time (ms)
-- KEYS[3] leases: running jobs by end of lease (ms)
-- KEYS[4] expiring: jobs by the time they expire unstarted (ms)
-- ARGV[1] worker: who asks
-- ARGV[2] leads: 1 if the caller led at its last tick
-- ARGV[3] term_ms: how long it leads without another tick (ms)
-- ARGV[4] limit: at most this many jobs of each kind (count)
-- Reply: {} another worker leads |
-- Reply: {now_ms, ids of jobs whose time has come, expired leases as id, end (ms), id, ...,
-- Reply: ids of jobs that have expired, if they did not start}
if ARGV[2] == '1' then
  -- One command, the rule; it was paused if another one leads, which then goes on to.
  local before = redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3], 'GET')
  if before and before ~= ARGV[1] then
    redis.call('SET', KEYS[1], before, 'PX', ARGV[3])
    return {}
  end
else
  local leader = redis.call('GET', KEYS[1])
  if leader and leader ~= ARGV[1] then
    return {}
  end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
end
if redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4]) == 0 then
  return {0, {}, {}, {}}
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
return {
  now_ms,
  redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms, 'LIMIT', 0, ARGV[4]),
  redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now_ms, 'WITHSCORES', 'LIMIT', 0, ARGV[4]),
  redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now_ms, 'LIMIT', 0, ARGV[4]),
}
