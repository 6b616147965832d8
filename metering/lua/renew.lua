#!lua flags=allow-oom
-- Pushes the expiry of a hold out and notes what was counted so far. Never pulls it in. Says whether
-- somebody has paused or killed what it runs in meanwhile.
--
-- KEYS: 1 hold records, 2 index of records, 3 state flags, then per scope hash and zset.
-- ARGV: as in scopes.lua, then number of stops and their names, ttl_ms, checkpoint ('' = keep the one
--       there is).
-- Returns strings: 1, or 0 when the hold is gone from any scope; paused, killed or ''; the place of
-- the stop whose flag that is ('' = the tenant's). Errors: BADARG.

local now, tenant, exchange = take_now(), take(), take()
local scopes = take_scopes(4)
local stops = take_stops()
local ttl, checkpoint = take_amount('ttl_ms'), take()
if fault then return redis.error_reply(fault) end

local flag, stop = look_at_flags(KEYS[3], stops)
local gone = {'0', flag or '', stop or ''}
local record = call('HGET', KEYS[1], exchange)
if not record then return gone end
record = cjson.decode(record)
if record.state ~= 'held' then return gone end
for _, scope in ipairs(scopes) do
  if not call('ZSCORE', scope.z, exchange) then return gone end
end

local expires = max(now + ttl, tonumber(record.expires_ms))
record.expires_ms = text(expires)
call('PERSIST', scopes[1].z)  -- a write that is allowed at maxmemory, see give_back; undone below
for _, scope in ipairs(scopes) do
  scope.till = tonumber(call('HGET', scope.c, 'until') or 0)
  expire_at(scope, exchange, now, expires)
end
call('ZADD', KEYS[2], text(expires), member(tenant, exchange))
call('HSET', KEYS[1], exchange, cjson.encode(record))
if checkpoint ~= '' then call('HSET', KEYS[1], exchange .. ':checkpoint', checkpoint) end
return {'1', gone[2], gone[3]}
