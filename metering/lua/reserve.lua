-- Holds room for an exchange under every cap, for the first candidate that fits, or holds nothing.
-- Idempotent on the exchange id: an exchange that holds gets its first answer again.
--
-- KEYS: 1 epoch, 2 state flags, 3 hold records, 4 commit markers, 5 index of records, then per scope
--       hash and zset.
-- ARGV: as in scopes.lua, then as in admission.lua, then owner, ttl_ms, facts ('' = none).
-- Returns strings: held|repeat, candidate (from 0), passed over before it (0|1), states
--              or: denied, reason, cap (from 1, '' for flags), dimension, reset_ms, states
--              or: denied, rebuilding (epoch is missing: an empty Redis is not a new tenant).
-- Errors: BADARG; ENDED when this exchange was committed, released or has lapsed, as for a reserve
-- that was overtaken on another connection: holding again would leave a hold nobody ends.
-- The record's scopes are "name label:bucket_ms:buckets ...": all that recovering it has to know.

local now, tenant, exchange = take_now(), take(), take()
local scopes = take_scopes(6)
local caps = take_caps(scopes)
local candidates = take_candidates()
local owner, ttl, facts = take(), take_amount('ttl_ms'), take()
if fault then return redis.error_reply(fault) end

if call('EXISTS', KEYS[1]) == 0 then return {'denied', 'rebuilding'} end
if call('HEXISTS', KEYS[4], exchange) == 1 then
  return redis.error_reply('ENDED exchange ' .. exchange .. ' has ended')
end
for i, scope in ipairs(scopes) do
  sweep(scope, now, i == 1 and KEYS[3])
  load(scope, exchange, now)
end
set_others(scopes)

local record = call('HGET', KEYS[3], exchange)
if record then
  record = cjson.decode(record)
  if record.state ~= 'held' then
    return redis.error_reply('ENDED exchange ' .. exchange .. ' is ' .. record.state)
  end
  return answer({'repeat', record.index, record.passed}, scopes, now)
end

local flag = stop_flag(KEYS[2], scopes)
if flag then return answer({'denied', flag, '', 'nano', ''}, scopes, now) end

local index, passed = choose(candidates, caps)
if not index then return deny(candidates, caps, scopes, now) end

local chosen, shapes = candidates[index], {}
for i, scope in ipairs(scopes) do
  place(scope, exchange, chosen.vector, now, now + ttl)
  local shape = scope.name
  for _, window in ipairs(scope.windows) do
    shape = format('%s %s:%.0f:%.0f', shape, window.label, window.ms, window.count)
  end
  shapes[i] = shape
end
local verdict, expires = {'held', text(index - 1), passed and '1' or '0'}, text(now + ttl)
local written = {exchange, cjson.encode({
  v = 1, state = 'held', vector = vector_record(chosen.vector), scopes = shapes, owner = owner,
  upstream = chosen.upstream, created_ms = text(now), expires_ms = expires, ttl_ms = text(ttl),
  index = verdict[2], passed = verdict[3],
})}
if facts ~= '' then written[3], written[4] = exchange .. ':facts', facts end
call('HSET', KEYS[3], unpack(written))
call('ZADD', KEYS[5], expires, member(tenant, exchange))
return answer(verdict, scopes, now)
