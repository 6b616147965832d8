-- Sets a flag of a tenant for a review item, and notes what it set; a stronger one is left alone.
-- KEYS[1] state hash of the tenant
-- ARGV[1] field   ARGV[2] value: JSON, or a stage as decimal text   ARGV[3] field of the note
-- Returns 1 when the flag was set here, 0 when it stood before or another one stands.
local standing, noted = redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[1], ARGV[3])
if standing and standing == noted then
  return 0
end
if standing and standing ~= '0' then
  local old, new = tonumber(standing), tonumber(ARGV[2])
  if not old or not new or old >= new then
    redis.call('HSET', KEYS[1], ARGV[3], '-')
    return 0
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[2])
return 1
