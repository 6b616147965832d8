#!lua flags=allow-oom
-- Says that a claim is still its owner's, or lets it go. Runs when Redis is full, too.
--
-- KEYS: the claim.
-- ARGV: the claim as it was made, ttl_ms (0 lets it go).
-- Returns: 1, or 0 where it is not there any more, or somebody else's.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
