#!lua flags=allow-oom
-- Takes a lease, keeps it, or gives it back: one holder at a time, and none for good.
-- Runs when Redis is full, too: what it writes is small and goes by itself.
--
-- KEYS: the lease. ARGV: who asks; for how many ms from now, 0 to give it back.
-- Returns 0: it is the asker's now (or nobody's, given back); else for how long it is another's, ms.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return math.max(1, redis.call('PTTL', KEYS[1])) end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 0
