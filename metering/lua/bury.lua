-- Acknowledges a dead letter and puts it into the shard's stream of them, once. Stands alone.
-- The acknowledgement comes first: it is allowed at maxmemory, and only who is first appends.
--
-- KEYS: 1 event stream, 2 stream of dead letters.
-- ARGV: group, stream id, how many dead letters stay, then fields and values (none when the
--       entry itself is gone).
-- Returns 1 when it was pending until now, else 0.

local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if acknowledged == 1 and #ARGV > 3 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 4))
end
return acknowledged
