#!lua flags=allow-oom
-- Gives a hold back: nothing was sent, nothing is owed. Idempotent; leaves a marker, so that a
-- reserve which this release overtook cannot place a hold that nobody would end. A commit that
-- still comes is taken: used is used. What was recovered for the exchange is taken back.
--
-- KEYS: 1 commit markers, 2 hold records, 3 event stream, 4 index of records, then per scope hash
--       and zset.
-- ARGV: as in scopes.lua, then marker's ttl_ms.
-- Returns 1 when a hold was given back, else 0. Errors: BADARG.

local now, tenant, exchange = take_now(), take(), take()
local scopes = take_scopes(5)
local marker_ttl = take_amount('marker ttl_ms')
if fault then return redis.error_reply(fault) end

local recovered = recovered_record(call('HGET', KEYS[2], exchange))
call('PERSIST', KEYS[2])  -- changes nothing and is allowed at maxmemory, see commit
if recovered then append_reversals(KEYS[2], exchange, KEYS[3]) end

local given = 0
call('ZREM', KEYS[4], member(tenant, exchange))
for _, scope in ipairs(scopes) do
  local hold = call('HGET', scope.c, 'h:' .. exchange)
  if hold then
    give_back(scope, exchange, hold)
    given = 1
  end
end
if recovered then
  for _, scope in ipairs(scopes) do load(scope, exchange, now) end
  take_recovery_back(recovered, scopes)
end
forget(KEYS[2], exchange)
call('HSETNX', KEYS[1], exchange, 'released')
call('PEXPIRE', KEYS[1], text(marker_ttl))
return given
