-- Replaces what an exchange holds by another candidate's vector, in every scope or in none. An
-- elastic one is taken as far as it fits.
-- A hold that lapsed meanwhile is placed anew, if it fits, for as long as it was first given.
--
-- KEYS: 1 epoch, 2 state flags, 3 hold records, 4 index of records, then per scope hash and zset.
-- ARGV: as in scopes.lua, then as in admission.lua with one candidate, then facts ('' = as they are).
-- Returns strings: held, 0, 0, vector and caps in shadow as reserve does, states
--              or: denied, as reserve does; the old hold stays.
-- Errors: BADARG; ENDED when the exchange has no record (never held, committed or released) or was
-- recovered: its usage is recorded, and placing it anew would forget what to take back.

local now, tenant, exchange = take_now(), take(), take()
local scopes = take_scopes(5)
local caps = take_caps(scopes)
local candidates = take_candidates()
local stops = take_stops()
local facts = take()
if fault then return redis.error_reply(fault) end

if call('EXISTS', KEYS[1]) == 0 then return {'denied', 'rebuilding'} end
for i, scope in ipairs(scopes) do
  sweep(scope, now, i == 1 and KEYS[3])
  load(scope, exchange, now)
end

local record = call('HGET', KEYS[3], exchange)
if not record then return redis.error_reply('ENDED exchange ' .. exchange .. ' holds nothing') end
record = cjson.decode(record)
if record.state == 'recovered' then
  return redis.error_reply('ENDED exchange ' .. exchange .. ' was recovered')
end

local flag, stop = look_at_flags(KEYS[2], stops)
if flag then return {'denied', flag, '', 'nano', '', stop} end
look_at(caps, exchange, true)
local index, vector = choose(candidates, caps, 0)
local denial = not index and deny(candidates, caps, scopes, now)
if fault then return redis.error_reply(fault) end
if denial then return denial end

if record.state ~= 'held' then
  record.state = 'held'
  record.expires_ms = text(now + tonumber(record.ttl_ms))
  call('ZADD', KEYS[4], record.expires_ms, member(tenant, exchange))
end
local holds = vector or candidates[1].vector
record.vector, record.upstream = vector_record(holds), candidates[1].upstream
record.shrunk = vector and '1' or nil
for _, scope in ipairs(scopes) do
  if scope.own then give_back(scope, exchange, scope.own) end
  local held = call('HMGET', scope.c, 'held:n', 'held:t', 'held:r')
  for d = 1, 3 do scope.texts[d] = held[d] or '0' end
  place(scope, exchange, holds, now, tonumber(record.expires_ms))
end
call('HSET', KEYS[3], exchange, cjson.encode(record))
if facts ~= '' then call('HSET', KEYS[3], exchange .. ':facts', facts) end
return answer({'held', '0', '0', vector_text(vector), shadowed(caps, holds)}, scopes, now)
