-- transcript_append: add entries to one transcript of a session, all of them or none.
-- KEYS[1] session: the session's hash, see transcripts.py
-- ARGV[1] subpath: the transcript; empty for the main one
-- ARGV[2] fence: the writer's token, 0 for a writer outside the fleet
-- ARGV[3] ttl_ms: of the session, from now (ms)
-- ARGV[4] max_bytes: largest size of the session (bytes)
-- ARGV[5] writer: who appends; its last append is remembered; empty to remember nothing
-- ARGV[6] append_id: names this append, so that a repetition of it stores nothing
-- ARGV[7] summary: the new summary; empty to leave it alone
-- ARGV[8] summary_version: of the summary that was folded from; empty if none was folded
-- ARGV[9] uuids: a line an entry that has one: the uuid as a JSON string
-- ARGV[10] entries: how many the blocks have (count)
-- ARGV[11...] rest: blocks of entries, each a JSON array
-- Reply: {"appended", mtime_ms, version} | {"repeated", mtime_ms} |
-- Reply: {"conflict", version, summary} | {"known", line of each uuid that is there, from 0} |
-- Reply: {"stale", fence} | {"deleted"} | {"too_large", size_bytes}
local FIRST_BLOCK = 11
local FIELDS = 10
local CHUNK = 2000 -- values a command: unpack is limited by Lua's stack, 8,000 values
local subpath = ARGV[1]
local blocks_field = 'blocks:' .. subpath
local entries_field = 'entries:' .. subpath
local last_field = 'last:' .. ARGV[5]
local asked = {'fence', 'version', 'size', 'mtime_ms', blocks_field, entries_field,
  'deleted', 'deleted:' .. subpath, last_field, 'subpaths'}
for uuid in string.gmatch(ARGV[9], '[^\n]+') do
  asked[#asked + 1] = uuid .. subpath
end
local known = redis.call('HMGET', KEYS[1], unpack(asked, 1, math.min(CHUNK, #asked)))
if known[7] or known[8] then
  return {'deleted'}
end
local fence = tonumber(ARGV[2])
if fence > 0 and known[1] and tonumber(known[1]) > fence then
  return {'stale', known[1]}
end
if ARGV[5] ~= '' and known[9] == ARGV[6] then
  return {'repeated', known[4]}
end
local version = known[2] or '0'
if ARGV[8] ~= '' and version ~= ARGV[8] then
  return {'conflict', version, redis.call('HGET', KEYS[1], 'summary') or ''}
end
for from = CHUNK + 1, #asked, CHUNK do
  local to = math.min(from + CHUNK - 1, #asked)
  for offset, value in ipairs(redis.call('HMGET', KEYS[1], unpack(asked, from, to))) do
    known[from + offset - 1] = value
  end
end
local there = {'known'}
for index = FIELDS + 1, #asked do
  if known[index] then
    there[#there + 1] = index - FIELDS - 1
  end
end
if #there > 1 then
  return there
end

local size = tonumber(known[3] or '0')
for index = FIRST_BLOCK, #ARGV do
  size = size + #ARGV[index]
end
if size > tonumber(ARGV[4]) then
  return {'too_large', size}
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local mtime_ms = string.format('%.0f', math.max(now_ms, tonumber(known[4] or '0')))
local number = tonumber(known[5] or '0')
local fields = {'mtime_ms', mtime_ms, 'size', size,
  blocks_field, number + #ARGV - FIRST_BLOCK + 1,
  entries_field, tonumber(known[6] or '0') + ARGV[10]}
local function set(field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end
for index = FIRST_BLOCK, #ARGV do
  set(number + index - FIRST_BLOCK .. ':' .. subpath, ARGV[index])
end
for index = FIELDS + 1, #asked do
  set(asked[index], 1)
end
if fence > 0 then
  set('fence', ARGV[2])
end
if ARGV[5] ~= '' then
  set(last_field, ARGV[6])
end
if subpath ~= '' and not known[5] then
  local subpaths = cjson.decode(known[10] or '[]')
  subpaths[#subpaths + 1] = subpath
  set('subpaths', cjson.encode(subpaths))
end
if ARGV[7] ~= '' then
  -- From the clock at first: a session that expired and began again repeats no version.
  version = string.format('%.0f', version == '0' and now_ms or version + 1)
  set('summary', ARGV[7])
  set('version', version)
end
for from = 1, #fields, CHUNK do
  redis.call('HSET', KEYS[1], unpack(fields, from, math.min(from + CHUNK - 1, #fields)))
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'appended', mtime_ms, version}
