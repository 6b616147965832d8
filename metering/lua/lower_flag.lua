-- Takes away a flag that was set for a review item, and the note; one that somebody else set stays.
-- KEYS[1] state hash of the tenant
-- ARGV[1] field   ARGV[2] field of the note, which holds what was set
-- Returns 1 when the flag was taken away, 0 when it was not ours.
local standing, noted = redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[1], ARGV[2])
if not standing or standing ~= noted then
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
