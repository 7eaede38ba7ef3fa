-- transcript_open: how much of one transcript there is; keeps the session alive.
-- KEYS[1] meta: the session's hash
-- KEYS[2] entries: hash of "<number>:<subpath>" -> entry
-- KEYS[3] uuids: set of those already there
-- ARGV[1] subpath: the transcript; empty for the main one
-- ARGV[2] ttl_ms: of all keys of the session, from now (ms); 0 leaves it as it is
-- Reply: {entries, size of the session (bytes)}; {0, 0} where there is none
local known = redis.call('HMGET', KEYS[1], 'count:' .. ARGV[1], 'size')
if not known[1] then
  return {0, 0}
end
if tonumber(ARGV[2]) > 0 then
  for index = 1, 3 do
    redis.call('PEXPIRE', KEYS[index], ARGV[2])
  end
end
return {tonumber(known[1]), tonumber(known[2])}
