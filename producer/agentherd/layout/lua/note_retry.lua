-- note_retry: remember which job tries an ended one again.
-- KEYS[1] record: the ended job's hash
-- ARGV[1] retried_as: the id of the other job
-- Reply: 1 noted | 0 the record is past its retention
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'retried_as', ARGV[1])
return 1
