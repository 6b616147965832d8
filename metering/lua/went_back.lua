-- Notes up to where a shard is being settled, and takes its epoch away when its data is older than
-- what was settled from it: the note is behind the ledger. Stands alone.
-- Works when Redis is at maxmemory: what empties it again must not wait for room.
--
-- KEYS: 1 epoch, 2 note.
-- ARGV: the two halves of the newest stream id in the ledger, those of the newest that is about to
--       be settled; none of either is 0 and 0.
-- Returns the note that was found when the epoch was taken away ('0-0': none), else nil.

redis.call('PERSIST', KEYS[2])  -- a write that needs no room lets those behind it pass

local function is_before(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end

local note = redis.call('GET', KEYS[2]) or '0-0'
local ms, n = string.match(note, '^(%d+)%-(%d+)$')
local noted = {tonumber(ms or 0), tonumber(n or 0)}
local settled = {tonumber(ARGV[1]), tonumber(ARGV[2])}
local settling = {tonumber(ARGV[3]), tonumber(ARGV[4])}

local newest = noted
if is_before(newest, settled) then newest = settled end
if is_before(newest, settling) then newest = settling end
if is_before(noted, newest) then
  redis.call('SET', KEYS[2], string.format('%.0f-%.0f', newest[1], newest[2]))
end
if is_before(noted, settled) and redis.call('DEL', KEYS[1]) == 1 then return note end
return nil
