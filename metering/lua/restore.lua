-- Writes one window of a scope as the ledger and the stream remember it, in place of what is there.
-- Holds, other windows and everything else in the hash are left alone. Stands alone (no scopes.lua
-- before it); the layout it writes is the one described there.
--
-- KEYS: 1 scope hash, 2 event stream of the same slot.
-- ARGV: last stream id that the caller has counted, label, how long the key is kept from now on, ms;
--       then per bucket with spend, oldest first: bucket, nano, tokens, requests (decimal strings
--       >= 0).
-- Returns: restored; or moved, having written nothing, when the stream has an entry after that id:
-- a commit has come in between, and the caller counts again. So nothing is lost or counted twice
-- however many commits run beside this, and whether or not they count in this window already.

local call = redis.call
local seen, label, keep = ARGV[1], ARGV[2], tonumber(ARGV[3])
local DIMS = {'n', 't', 'r'}
local OWN = {lo = true, hi = true, n = true, t = true, r = true}

if #call('XRANGE', KEYS[2], '(' .. seen, '+', 'COUNT', 1) > 0 then return 'moved' end

for _, field in ipairs(call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, #label + 1) == label .. ':' then
    local rest = string.sub(field, #label + 2)
    if OWN[rest] or string.find(rest, '^%d+:[ntr]$') then call('HDEL', KEYS[1], field) end
  end
end
if #ARGV == 3 then return 'restored' end

for i = 4, #ARGV, 4 do
  for d = 1, 3 do
    local by = ARGV[i + d]
    if by ~= '0' then
      call('HINCRBY', KEYS[1], label .. ':' .. ARGV[i] .. ':' .. DIMS[d], by)
      call('HINCRBY', KEYS[1], label .. ':' .. DIMS[d], by)
    end
  end
end
call('HSET', KEYS[1], label .. ':lo', ARGV[4], label .. ':hi', ARGV[#ARGV - 3])
-- `until` is left to the next call; whatever it says, the key must outlast this window.
if call('PTTL', KEYS[1]) < keep then call('PEXPIRE', KEYS[1], string.format('%.0f', keep)) end
return 'restored'
