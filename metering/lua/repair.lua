-- Sets one closed bucket of a scope's window to what the ledger has, if it is still as compared.
-- Totals and edges are made anew from the buckets, so they are the sum of these whatever they were.
-- Holds and everything else in the hash are left alone. Stands alone (no scopes.lua before it); the
-- layout it writes is the one described there.
--
-- KEYS: 1 scope hash.
-- ARGV: label, how long the key is kept from now on in ms, bucket, then nano, tokens, requests as
--       compared, then nano, tokens, requests as they should be (decimal strings >= 0).
-- Returns: repaired; or moved, having written nothing, when the bucket is not what was compared.
-- Idempotent: what was repaired is no longer what was compared.

local call = redis.call
local label, keep, bucket = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local DIMS = {'n', 't', 'r'}

local function field(number, d)
  return label .. ':' .. string.format('%.0f', number) .. ':' .. DIMS[d]
end

for d = 1, 3 do
  if (call('HGET', KEYS[1], field(bucket, d)) or '0') ~= ARGV[3 + d] then return 'moved' end
end
for d = 1, 3 do
  if ARGV[6 + d] == '0' then
    call('HDEL', KEYS[1], field(bucket, d))
  else
    call('HSET', KEYS[1], field(bucket, d), ARGV[6 + d])
  end
end

local edges = call('HMGET', KEYS[1], label .. ':lo', label .. ':hi')
local first = math.min(tonumber(edges[1] or nil) or bucket, bucket)
local last = math.max(tonumber(edges[2] or nil) or bucket, bucket)
local lo, hi
for d = 1, 3 do call('HDEL', KEYS[1], label .. ':' .. DIMS[d]) end
for number = first, last do
  for d = 1, 3 do
    local value = call('HGET', KEYS[1], field(number, d))
    if value then
      call('HINCRBY', KEYS[1], label .. ':' .. DIMS[d], value)  -- int64: a Lua sum loses digits
      lo, hi = lo or number, number
    end
  end
end
if lo then
  call('HSET', KEYS[1], label .. ':lo', string.format('%.0f', lo),
       label .. ':hi', string.format('%.0f', hi))
  -- `until` is left to the next call; whatever it says, the key must outlast this window.
  if call('PTTL', KEYS[1]) < keep then call('PEXPIRE', KEYS[1], string.format('%.0f', keep)) end
else
  call('HDEL', KEYS[1], label .. ':lo', label .. ':hi')
end
return 'repaired'
