#!lua flags=allow-oom,no-writes
-- Reads the scopes of a request as they stand, and changes nothing: for who asks and holds nothing.
-- What has left a window or lapsed is still there; the reader leaves it out (metering/scope_reading).
--
-- KEYS: 1 epoch, 2 state flags, then per scope hash and zset.
-- ARGV: none.
-- Returns: now_ms; 1, or 0 while the windows are being rebuilt; the state hash; then of each scope its
-- hash and its zset, all as flat lists.

local time = redis.call('TIME')
local found = {
  string.format('%s%03d', time[1], math.floor(tonumber(time[2]) / 1000)),
  redis.call('EXISTS', KEYS[1]),
  redis.call('HGETALL', KEYS[2]),
}
for i = 3, #KEYS, 2 do
  found[#found + 1] = redis.call('HGETALL', KEYS[i])
  found[#found + 1] = redis.call('ZRANGE', KEYS[i + 1], '0', '-1', 'WITHSCORES')
end
return found
