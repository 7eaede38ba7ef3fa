-- resign: lead no more, so that another worker takes over at once.
-- KEYS[1] leader: the worker that leads
-- ARGV[1] worker: who resigns
-- Reply: 1 resigned | 0 it did not lead
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
