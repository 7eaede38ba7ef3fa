-- keep_checkpoint: note what is stored of a running job's workspace, if the caller still holds it.
-- KEYS[1] record: the job's hash
-- KEYS[2] checkpoint: what is stored of its workspace
-- ARGV[1] fence: the caller's token
-- ARGV[2] about: JSON object of fields to set
-- ARGV[3] content: the packed workspace; empty where it is kept elsewhere
-- ARGV[4] replace: 1 where this takes the place of what was stored before
-- ARGV[5] ttl_ms: how long it is kept where no end of the job removes it (ms)
-- Reply: 1 noted | 0 the caller's lease is gone
local held = redis.call('HMGET', KEYS[1], 'state', 'fence')
if held[1] ~= 'running' or held[2] ~= ARGV[1] then
  return 0
end
if ARGV[4] == '1' then
  local time = redis.call('TIME')
  redis.call('UNLINK', KEYS[2])
  redis.call('HSET', KEYS[2],
    'at_ms', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
  if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[2], 'content', ARGV[3])
  end
end
for name, value in pairs(cjson.decode(ARGV[2])) do
  redis.call('HSET', KEYS[2], name, value)
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
