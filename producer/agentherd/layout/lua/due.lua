-- due: the jobs whose time has come.
-- KEYS[1] scheduled: jobs that wait for their time (ms)
-- ARGV[1] limit: at most this many (count)
-- Reply: list of job ids, the longest overdue first
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'LIMIT', 0, ARGV[1])
