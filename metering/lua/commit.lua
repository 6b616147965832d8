#!lua flags=allow-oom
-- Ends a hold, adds the true amounts to every window of every scope, appends the events: one step.
-- Idempotent on the exchange id by its marker. A hold that lapsed is no obstacle: what was used
-- was used. One that was recovered is set right: what was recovered leaves the windows it was
-- added to, and its reversals go to the stream before the events.
-- Works when Redis is at maxmemory (the flag above; on 6.2 see give_back).
-- Requests that counted when they began are not counted again. Marks that this crosses are told.
--
-- KEYS: 1 commit markers, 2 hold records, 3 event stream, 4 index of records, 5 notes, then per scope
--       hash and zset.
-- ARGV: as in scopes.lua, then number of marks and these as in spending.lua, then nano, tokens,
--       requests, marker's ttl_ms, number of events; per event: body, sha256 of the body in hex.
-- Returns strings: committed|late|corrected, states; or: repeat.
-- Errors: BADARG.

local now, tenant, exchange = take_now(), take(), take()
local scopes = take_scopes(6)
take_marks(scopes)
local actual = take_vector()
local marker_ttl = take_amount('marker ttl_ms')
local events = take_amount('events')
if #ARGV ~= cursor + 2 * events then fault = fault or 'BADARG events and their hashes' end
if fault then return redis.error_reply(fault) end

local marker = call('HGET', KEYS[1], exchange)
if marker and marker ~= 'released' then return {'repeat'} end

-- What may fail comes first (a key of another type, say): a commit that fails has spent nothing,
-- has left neither marker nor event, and is sent again. The first write changes nothing and is one
-- that Redis allows at maxmemory, see give_back; the records never have an expiry.
require_types(KEYS[2], KEYS[3], KEYS[4], scopes)
call('PERSIST', KEYS[2])
local own = call('HGET', scopes[1].c, 'h:' .. exchange)
local record = own or call('HGET', KEYS[2], exchange)
local recovered = not own and recovered_record(record)
local result = own and 'committed' or recovered and 'corrected' or 'late'
if recovered then append_reversals(KEYS[2], exchange, KEYS[3]) end
local id = nil
for i = 1, events do
  id = append(KEYS[3], ARGV[cursor + 2 * i - 1], ARGV[cursor + 2 * i])
end
call('HSET', KEYS[1], exchange, result)
call('PEXPIRE', KEYS[1], text(marker_ttl))

call('ZREM', KEYS[4], member(tenant, exchange))
for i, scope in ipairs(scopes) do
  call('ZREM', scope.z, exchange)  -- before the sweep: what lapsed just now is still ours
  sweep(scope, now, i == 1 and KEYS[2])
  load(scope, exchange, now, 'all')
  if scope.own then give_back_loaded(scope, exchange) end
end
if recovered then take_recovery_back(recovered, scopes) end
forget(KEYS[2], exchange)
for _, scope in ipairs(scopes) do
  for _, window in ipairs(scope.windows) do
    at_bucket_of(window, id)
    rearm(scope, window)
    spend(scope, window, record and counted(window, actual) or actual)
    tell_marks(KEYS[5], tenant, scope, window, now)
  end
  write(scope)
  keep(scope, now, now)
end
return answer({result}, scopes, now)
