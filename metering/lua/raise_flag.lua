-- Sets a flag of a tenant for a review item, and notes that it did; a stronger one is left alone.
-- KEYS[1] state hash of the tenant
-- ARGV[1] field   ARGV[2] value: JSON, or a stage as decimal text   ARGV[3] field of the note
-- Returns 1 when the flag was set here, 0 when another one stands.
local standing = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[3], '1')
if standing and standing ~= '0' then
  local old, new = tonumber(standing), tonumber(ARGV[2])
  if not old or not new or old >= new then
    return 0
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
