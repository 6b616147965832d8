#!lua flags=allow-oom
-- Writes a note of a batch over the one that was read, if that is still there: of two who would, one
-- does. Runs when Redis is full, too: what it says is what keeps a batch from being billed twice.
--
-- KEYS: the note.
-- ARGV: the note that was read, empty where there was none; the new one; ttl_ms.
-- Returns the note that is there now.

local there = redis.call('GET', KEYS[1]) or ''
if there ~= ARGV[1] then return there end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
