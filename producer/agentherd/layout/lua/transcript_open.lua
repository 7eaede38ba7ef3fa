-- transcript_open: how much of one transcript there is; keeps the session alive.
-- KEYS[1] session: the session's hash
-- ARGV[1] subpath: the transcript; empty for the main one
-- ARGV[2] ttl_ms: of the session, from now (ms); 0 leaves it as it is
-- ARGV[3] fence: of the writer that goes on with it, refuses older ones from now on; 0 for a reader
-- Reply: {blocks (count), entries (count)}; {0, 0} where there is none
local known = redis.call('HMGET', KEYS[1], 'blocks:' .. ARGV[1], 'entries:' .. ARGV[1], 'fence',
  'deleted')
if tonumber(ARGV[3]) > tonumber(known[3] or '0') and not known[4] then
  redis.call('HSET', KEYS[1], 'fence', ARGV[3]) -- also where there is nothing yet
elseif not known[1] then
  return {0, 0}
end
if tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {tonumber(known[1] or '0'), tonumber(known[2] or '0')}
