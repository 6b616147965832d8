#!lua flags=allow-oom
-- Removes a hold record that nobody can read, and what is kept beside it, if it is still what was
-- read. Only after its bytes are in the ledger. Holds in the scopes lapse by themselves. Stands
-- alone.
--
-- KEYS: 1 hold records, 2 index of records.
-- ARGV: exchange id, its member of the index, the record as read.
-- Returns 1 when it was removed, 0 when it has changed or is gone.

local exchange = ARGV[1]
if redis.call('HGET', KEYS[1], exchange) ~= ARGV[3] then return 0 end
redis.call('HDEL', KEYS[1], exchange, exchange .. ':facts', exchange .. ':checkpoint',
           exchange .. ':reversals')
redis.call('ZREM', KEYS[2], ARGV[2])
return 1
