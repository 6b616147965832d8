#!lua flags=allow-oom
-- Gives a hold back: nothing was sent, nothing is owed. Idempotent; leaves a marker, so that a
-- reserve which this release overtook cannot place a hold that nobody would end. A commit that
-- still comes is taken: used is used.
--
-- KEYS: 1 commit markers, 2 hold records, then per scope hash and zset.
-- ARGV: as in scopes.lua, then marker's ttl_ms.
-- Returns 1 when a hold was given back, else 0. Errors: BADARG.

local now, exchange = take_now(), take()
local scopes = take_scopes(3)
local marker_ttl = take_amount('marker ttl_ms')
if fault then return redis.error_reply(fault) end

local given = 0
call('HDEL', KEYS[2], exchange)
for _, scope in ipairs(scopes) do
  local hold = call('HGET', scope.c, 'h:' .. exchange)
  if hold then
    give_back(scope, exchange, hold)
    scope.keep = max(scope.keep, tonumber(call('HGET', scope.c, 'keep') or 0))
    touch(scope, now)
    given = 1
  end
end
call('HSETNX', KEYS[1], exchange, 'released')
call('PEXPIRE', KEYS[1], text(marker_ttl))
return given
