#!lua flags=allow-oom
-- Records the usage of an exchange whose process has died, once: adds what it is known to have used
-- to every window, appends its events, and keeps what would undo this beside the record, for a
-- commit that comes after all. Does nothing when the record is not what the caller has read, or
-- its time is not over for long enough.
--
-- KEYS: 1 hold records, 2 event stream, 3 index of records, then per scope hash and zset.
-- ARGV: as in scopes.lua, then expires_ms as read, grace_ms, keep_ms (how long the record is kept),
--       nano, tokens, requests, reversals (lines of "sha256 body"), number of events; per event:
--       body, sha256 of the body in hex.
-- Returns: recovered; or changed (renewed, swapped or not due yet); or ended (no record, or one
-- that was recovered before). Errors: BADARG.

local now, tenant, exchange = take_now(), take(), take()
local scopes = take_scopes(4)
local expires, grace = take_amount('expires_ms'), take_amount('grace_ms')
local keep_ms = take_amount('keep_ms')
local actual, reversals = take_vector(), take()
local events = take_amount('events')
if #ARGV ~= cursor + 2 * events then fault = fault or 'BADARG events and their hashes' end
if fault then return redis.error_reply(fault) end

local record = call('HGET', KEYS[1], exchange)
if record then record = cjson.decode(record) end
if not record or record.state == 'recovered' then return 'ended' end
if tonumber(record.expires_ms) ~= expires or now < expires + grace then return 'changed' end

-- What may fail comes first, see commit; the first write changes nothing.
require_types(KEYS[1], KEYS[2], KEYS[3], scopes)
call('PERSIST', KEYS[1])
local id = nil
for i = 1, events do
  id = append(KEYS[2], ARGV[cursor + 2 * i - 1], ARGV[cursor + 2 * i])
end
call('HDEL', KEYS[1], exchange .. ':facts', exchange .. ':checkpoint')
record.state = 'recovered'
record.recovered = text(actual[1]) .. ' ' .. text(actual[2]) .. ' ' .. text(actual[3])
record.buckets = {}
for _, scope in ipairs(scopes) do
  local hold = call('HGET', scope.c, 'h:' .. exchange)
  if hold then give_back(scope, exchange, hold) end
  load(scope, exchange, now, 'all')
  for _, window in ipairs(scope.windows) do
    at_bucket_of(window, id)
    record.buckets[scope.name .. ' ' .. window.label] =
      spend(scope, window, counted(window, actual))
  end
  write(scope)
  keep(scope, now, now)
end
call('HSET', KEYS[1], exchange, cjson.encode(record), exchange .. ':reversals', reversals)
call('ZADD', KEYS[3], text(now + keep_ms), member(tenant, exchange))
return 'recovered'
