#!lua flags=allow-oom
-- Notes that objects at a provider are a tenant's. Runs when Redis is full, too: the object is there.
--
-- KEYS: the sorted set of names by Unix ms.
-- ARGV: ttl_ms and the most entries of what is passing, 0 and 0 for what is kept; then the names.
-- Returns how many entries there are then.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl, most = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 3, #ARGV do
  if ttl > 0 then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[i])
  else
    redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now), ARGV[i])
  end
end
if ttl > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ttl))
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -most - 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return redis.call('ZCARD', KEYS[1])
