#!lua flags=no-writes
-- Finds a reply that was kept, if it is still good.
--
-- KEYS: the shard's shelf (hash).
-- ARGV: the name of the entry.
-- Returns: age in ms, and the reply as it was kept; or nothing.
-- An entry is `<kept at> <good until>\n<reply>`, both Unix ms.

local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return {} end
local since, till, at = string.match(entry, '^(%d+) (%d+)\n()')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not since or tonumber(till) <= now then return {} end
return {string.format('%.0f', math.max(0, now - tonumber(since))), string.sub(entry, at)}
