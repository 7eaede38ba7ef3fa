-- transcript_delete: remove a session, or one of its further transcripts, for good.
-- KEYS[1] meta: the session's hash
-- KEYS[2] entries: hash of "<number>:<subpath>" -> entry
-- KEYS[3] uuids: set of those already there
-- KEYS[4] tombstone: refuses late appends
-- ARGV[1] subpath: the transcript; empty for the whole session
-- ARGV[2] tombstone_ttl_ms: how long late appends are refused (ms)
-- Reply: 1 something was there | 0 nothing was
local subpath = ARGV[1]
if subpath == '' then
  local existed = redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  redis.call('SET', KEYS[4], '1', 'PX', ARGV[2])
  return existed > 0 and 1 or 0
end
local count = redis.call('HGET', KEYS[1], 'count:' .. subpath)
if not count then
  return 0
end
local freed = 0
for number = 0, tonumber(count) - 1 do
  local field = number .. ':' .. subpath
  freed = freed + redis.call('HSTRLEN', KEYS[2], field)
  redis.call('HDEL', KEYS[2], field)
end
redis.call('HINCRBY', KEYS[1], 'size', -freed)
redis.call('HDEL', KEYS[1], 'count:' .. subpath)
redis.call('HSET', KEYS[1], 'gone:' .. subpath, '1')
return 1
