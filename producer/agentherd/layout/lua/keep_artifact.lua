-- keep_artifact: store one file of a running job, if the caller still holds it.
-- KEYS[1] record: the job's hash
-- KEYS[2] artifacts: name -> bytes
-- ARGV[1] fence: the caller's token
-- ARGV[2] name: path in the workspace
-- ARGV[3] content: the file's bytes
-- Reply: 1 stored | 0 the caller's lease is gone
local held = redis.call('HMGET', KEYS[1], 'state', 'fence')
if held[1] ~= 'running' or held[2] ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
