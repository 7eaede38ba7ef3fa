-- report: append events of a running job, if the caller still holds it.
-- KEYS[1] record: the job's hash
-- KEYS[2] events: the job's stream
-- ARGV[1] fence: the caller's token
-- ARGV[2] max_events: the stream is trimmed to about this many (count)
-- ARGV[3] events: JSON array of [kind, data as JSON text]
-- ARGV[4] progress: JSON object of record fields to set, such as the cost so far
-- Reply: 1 appended | 0 the caller's lease is gone
local held = redis.call('HMGET', KEYS[1], 'state', 'fence', 'attempt')
if held[1] ~= 'running' or held[2] ~= ARGV[1] then
  return 0
end
for _, event in ipairs(cjson.decode(ARGV[3])) do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*',
    'kind', event[1], 'attempt', held[3], 'data', event[2])
end
for name, value in pairs(cjson.decode(ARGV[4])) do
  redis.call('HSET', KEYS[1], name, value)
end
return 1
