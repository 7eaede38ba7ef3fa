-- transcript_forget: unlist sessions that were found gone, unless they were used meanwhile.
-- KEYS[1] index: the tenant's sessions by the time they expire (ms)
-- ARGV[1...] rest: pairs of session id and the score that it was listed with
-- Reply: how many were unlisted (count)
local removed = 0
for index = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[index])
  if score and tonumber(score) <= tonumber(ARGV[index + 1]) then
    removed = removed + redis.call('ZREM', KEYS[1], ARGV[index])
  end
end
return removed
