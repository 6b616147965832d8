-- Takes a shard's epoch away when its data is older than what was settled from it: the stream ends
-- before the ledger's watermark, and nobody has rebuilt the windows since. Stands alone.
--
-- KEYS: 1 epoch, 2 event stream.
-- ARGV: the two halves of the newest settled stream id.
-- Returns the last id of the stream when the epoch was taken away, else nil.

local epoch = tonumber(redis.call('GET', KEYS[1]) or nil)
local settled_ms, settled_n = tonumber(ARGV[1]), tonumber(ARGV[2])
if not epoch or epoch > settled_ms then return nil end

local last = '0-0'
if redis.call('EXISTS', KEYS[2]) == 1 then
  local about = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then last = about[i + 1] end
  end
end
local ms, n = string.match(last, '^(%d+)%-(%d+)$')
ms, n = tonumber(ms), tonumber(n)
if ms > settled_ms or (ms == settled_ms and n >= settled_n) then return nil end

redis.call('DEL', KEYS[1])
return last
