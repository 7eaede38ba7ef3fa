-- transcript_delete: remove a session, or one of its further transcripts, for good.
-- KEYS[1] session: the session's hash; remains as a tombstone, which refuses late appends
-- ARGV[1] subpath: the transcript; empty for the whole session
-- ARGV[2] tombstone_ttl_ms: how long late appends to the session are refused (ms)
-- Reply: 1 something was there | 0 nothing was
local subpath = ARGV[1]
if subpath == '' then
  local existed = redis.call('HEXISTS', KEYS[1], 'mtime_ms')
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], 'deleted', 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return existed
end
local known = redis.call('HMGET', KEYS[1], 'blocks:' .. subpath, 'subpaths')
if not known[1] then
  return 0
end
local freed = 0
for number = 0, tonumber(known[1]) - 1 do
  local field = number .. ':' .. subpath
  freed = freed + redis.call('HSTRLEN', KEYS[1], field)
  redis.call('HDEL', KEYS[1], field)
end
redis.call('HINCRBY', KEYS[1], 'size', -freed)
redis.call('HDEL', KEYS[1], 'blocks:' .. subpath, 'entries:' .. subpath, 'subpaths')
local left = {}
for _, other in ipairs(cjson.decode(known[2])) do
  if other ~= subpath then
    left[#left + 1] = other
  end
end
if #left > 0 then
  redis.call('HSET', KEYS[1], 'subpaths', cjson.encode(left))
end
-- A late append to it is refused for as long as the session lives.
redis.call('HSET', KEYS[1], 'deleted:' .. subpath, 1)
return 1
