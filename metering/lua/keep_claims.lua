-- Notes that events which were claimed are recorded, so that repeats of them are known.
--
-- KEYS: per event its record, all of one slot.
-- ARGV: ttl_ms; then per event the digest of what was said.
-- Returns: OK.

for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i + 1] .. '+', 'PX', ARGV[1]) end
return {ok = 'OK'}
