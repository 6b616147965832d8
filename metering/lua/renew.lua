#!lua flags=allow-oom
-- Pushes the expiry of a hold out and notes what was counted so far. Never pulls it in.
--
-- KEYS: 1 hold records, then per scope hash and zset.
-- ARGV: as in scopes.lua, then ttl_ms, checkpoint (JSON object of decimal strings, '' = keep).
-- Returns 1, or 0 when the hold is gone from any scope. Errors: BADARG.

local now, exchange = take_now(), take()
local scopes = take_scopes(2)
local ttl, checkpoint = take_amount('ttl_ms'), take()
if fault then return redis.error_reply(fault) end

local record = call('HGET', KEYS[1], exchange)
if not record then return 0 end
record = cjson.decode(record)
if record.state ~= 'held' then return 0 end
for _, scope in ipairs(scopes) do
  if not call('ZSCORE', scope.z, exchange) then return 0 end
end

local expires = max(now + ttl, tonumber(record.expires_ms))
record.expires_ms = text(expires)
if checkpoint ~= '' then record.checkpoint = cjson.decode(checkpoint) end
for _, scope in ipairs(scopes) do
  scope.keep = max(scope.keep, tonumber(call('HGET', scope.c, 'keep') or 0))
  call('ZADD', scope.z, text(expires), exchange)
  touch(scope, now)
end
call('HSET', KEYS[1], exchange, cjson.encode(record))
return 1
