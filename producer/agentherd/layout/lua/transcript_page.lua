-- transcript_page: where a page of blocks ends that begins at a given block.
-- KEYS[1] session: the session's hash
-- ARGV[1] subpath: the transcript; empty for the main one
-- ARGV[2] first: number of the first block, from 0 (count)
-- ARGV[3] end: number behind the last block wanted (count)
-- ARGV[4] page_bytes: a page ends before it exceeds this, but has one block at least (bytes)
-- Reply: number behind the page's last block (count)
local first = tonumber(ARGV[2])
local size = 0
for number = first, tonumber(ARGV[3]) - 1 do
  size = size + redis.call('HSTRLEN', KEYS[1], number .. ':' .. ARGV[1])
  if size > tonumber(ARGV[4]) and number > first then
    return number
  end
end
return tonumber(ARGV[3])
