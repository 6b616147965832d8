-- Reads scopes at a known place of the stream. Stands alone, writes nothing.
--
-- KEYS: 1 event stream, then scope hashes of the same slot.
-- ARGV: last stream id that the caller has counted.
-- Returns the fields and values of each hash; or moved, when the stream has an entry after that id.

if #redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1) > 0 then return 'moved' end
local found = {}
for i = 2, #KEYS do found[i - 1] = redis.call('HGETALL', KEYS[i]) end
return found
