-- Writes a scope's window as the ledger and the stream remember it, in place of what is there.
-- Holds and everything else in the hash are left alone. Stands alone (no scopes.lua before it);
-- the layout it writes is the one described there.
--
-- KEYS: 1 scope hash, 2 event stream of the same slot.
-- ARGV: last stream id that the caller has counted, label, bucket_ms, buckets of the window; then
--       per bucket with spend, oldest first: bucket, nano, tokens, requests (decimal strings >= 0).
-- Returns: restored; or moved, having written nothing, when the stream has an entry after that id:
-- a commit has come in between, and the caller counts again. So nothing is lost or counted twice
-- however many commits run beside this.

local call = redis.call
local seen, label, bucket_ms, buckets = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local DIMS = {'n', 't', 'r'}

if #call('XRANGE', KEYS[2], '(' .. seen, '+', 'COUNT', 1) > 0 then return 'moved' end

for _, field in ipairs(call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, #label + 1) == label .. ':' then call('HDEL', KEYS[1], field) end
end
if #ARGV == 4 then return 'restored' end

for i = 5, #ARGV, 4 do
  for d = 1, 3 do
    local by = ARGV[i + d]
    if by ~= '0' then
      call('HINCRBY', KEYS[1], label .. ':' .. ARGV[i] .. ':' .. DIMS[d], by)
      call('HINCRBY', KEYS[1], label .. ':' .. DIMS[d], by)
    end
  end
end
local keep = math.max(bucket_ms * (buckets + 2), tonumber(call('HGET', KEYS[1], 'keep') or 0))
local keep_text = string.format('%.0f', keep)
call('HSET', KEYS[1], label .. ':lo', ARGV[5], label .. ':hi', ARGV[#ARGV - 3], 'keep', keep_text)
if call('PTTL', KEYS[1]) < keep then call('PEXPIRE', KEYS[1], keep_text) end
return 'restored'
