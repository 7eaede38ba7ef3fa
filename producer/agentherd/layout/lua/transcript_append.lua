-- transcript_append: add entries to one transcript of a session, all of them or none.
-- KEYS[1] meta: the session's hash: mtime, size, fence, summary, a count per transcript
-- KEYS[2] entries: hash of "<number>:<subpath>" -> entry
-- KEYS[3] uuids: set of those already there
-- KEYS[4] tombstone: exists where the session was deleted
-- ARGV[1] subpath: the transcript; empty for the main one
-- ARGV[2] fence: the writer's token, 0 for a writer outside the fleet
-- ARGV[3] ttl_ms: of all keys of the session, from now (ms)
-- ARGV[4] max_bytes: largest size of the session (bytes)
-- ARGV[5] summary: the new summary; empty to leave it alone
-- ARGV[6] summary_version: of the summary that it was made from
-- ARGV[7...] rest: pairs of uuid ("" for none) and entry
-- Reply: {"appended", mtime_ms, added} | {"conflict", version, summary} | {"stale", fence} |
-- Reply: {"deleted"} | {"too_large", size_bytes}
if redis.call('EXISTS', KEYS[4]) == 1 then
  return {'deleted'}
end
local subpath = ARGV[1]
local count_field = 'count:' .. subpath
local known = redis.call('HMGET', KEYS[1],
  'fence', 'version', 'size', 'mtime_ms', count_field, 'gone:' .. subpath)
if known[6] then
  return {'deleted'}
end
local fence = tonumber(ARGV[2])
if fence > 0 and known[1] and tonumber(known[1]) > fence then
  return {'stale', known[1]}
end
local version = known[2] or '0'
if ARGV[5] ~= '' and version ~= ARGV[6] then
  return {'conflict', version, redis.call('HGET', KEYS[1], 'summary') or ''}
end

local fresh = {}
local batch = {}
local size = tonumber(known[3] or '0')
for index = 7, #ARGV, 2 do
  local uuid = ARGV[index]
  local seen = uuid ~= '' and (batch[uuid] or redis.call('SISMEMBER', KEYS[3], uuid) == 1)
  if not seen then
    batch[uuid] = uuid ~= ''
    fresh[#fresh + 1] = index
    size = size + #ARGV[index + 1]
  end
end
if size > tonumber(ARGV[4]) then
  return {'too_large', size}
end

local time = redis.call('TIME')
local mtime_ms = time[1] * 1000 + math.floor(time[2] / 1000)
mtime_ms = math.max(mtime_ms, tonumber(known[4] or '0'))
local number = tonumber(known[5] or '0')
for _, index in ipairs(fresh) do
  redis.call('HSET', KEYS[2], number .. ':' .. subpath, ARGV[index + 1])
  number = number + 1
  if ARGV[index] ~= '' then
    redis.call('SADD', KEYS[3], ARGV[index])
  end
end
mtime_ms = string.format('%.0f', mtime_ms)
redis.call('HSET', KEYS[1], 'mtime_ms', mtime_ms, 'size', size, count_field, number)
if fence > 0 then
  redis.call('HSET', KEYS[1], 'fence', ARGV[2])
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'summary', ARGV[5], 'version', version + 1)
end
for index = 1, 3 do
  redis.call('PEXPIRE', KEYS[index], ARGV[3])
end
return {'appended', mtime_ms, #fresh}
