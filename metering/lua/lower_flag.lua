-- Takes away a flag that was set for a review item, and the note; one that somebody else set stays.
-- KEYS[1] state hash of the tenant
-- ARGV[1] field   ARGV[2] text that the value must hold (empty: any)   ARGV[3] field of the note
-- Returns 1 when the flag was taken away, 0 when it was not ours.
local standing = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[3])
if not standing or not string.find(standing, ARGV[2], 1, true) then
  return 0
end
return redis.call('HDEL', KEYS[1], ARGV[1])
