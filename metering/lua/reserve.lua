-- Holds room for an exchange under every cap, for the first candidate that fits, or holds nothing.
-- Idempotent on the exchange id: an exchange that holds gets its first answer again.
--
-- KEYS: 1 epoch, 2 state flags, 3 hold records, 4 commit markers, 5 index of records, 6 notes, then
--       per scope hash and zset.
-- ARGV: as in scopes.lua, then as in admission.lua, then the stairs: number of stages (0 = no stairs);
--       if any: name ('' = not remembered), dwell_ms, 0 or 1 for shadow, per stage enter and leave
--       in parts per million of a money cap. Then owner, ttl_ms, facts ('' = none), 0 or 1: 1 says that
--       the exchange runs and its hold was lost, so that only a flag may stand in its way.
-- Returns strings: held|repeat, candidate (from 0), stage in force, vector held if less than asked
--                  ("nano tokens requests" or ''), caps in shadow that would have refused, states
--              or: denied, reason, cap (from 1, or ''), dimension, reset_ms, stop (from 1, or ''),
--                  stage in force, states; of flags without the last two
--              or: denied, rebuilding (epoch is missing: an empty Redis is not a new tenant).
-- Errors: BADARG; ENDED when this exchange was committed, released or has lapsed, as for a reserve
-- that was overtaken on another connection: holding again would leave a hold nobody ends.
-- The record's scopes are "name label:bucket_ms:buckets label:zone ...": all that recovering it has to
-- know. One with a zone is of version 2, which older workers leave alone.
-- The state hash remembers stairs as stage:<name>, "<stage> <since, Unix ms>".

local now, tenant, exchange = take_now(), take(), take()
local scopes = take_scopes(7)
local caps = take_caps(scopes)
local candidates = take_candidates()
local stops = take_stops()
local stairs, stages = nil, min(take_amount('stages'), #ARGV)
if stages > 0 then
  stairs = {name = take(), dwell = take_amount('dwell_ms'), shadow = take() == '1'}
  for i = 1, stages do stairs[i] = {enter = take_amount('enter'), leave = take_amount('leave')} end
end
local owner, ttl, facts = take(), take_amount('ttl_ms'), take()
local runs = take() == '1'
if fault then return redis.error_reply(fault) end

if not runs and call('EXISTS', KEYS[1]) == 0 then return {'denied', 'rebuilding'} end
if call('HEXISTS', KEYS[4], exchange) == 1 then
  return redis.error_reply('ENDED exchange ' .. exchange .. ' has ended')
end
for i, scope in ipairs(scopes) do
  sweep(scope, now, i == 1 and KEYS[3])
  load(scope, exchange, now, 'rates')
end

local record = call('HGET', KEYS[3], exchange)
if record then
  record = cjson.decode(record)
  if record.state ~= 'held' then
    return redis.error_reply('ENDED exchange ' .. exchange .. ' is ' .. record.state)
  end
  local vector = ''
  if record.shrunk then
    vector = record.vector.nano .. ' ' .. record.vector.tokens .. ' ' .. record.vector.requests
  end
  local stage = record.stage or record.passed  -- `passed` by proxies of before there were stages
  return answer({'repeat', record.index, stage, vector, record.shadowed or ''}, scopes, now)
end

local more = stairs and {'stage:' .. stairs.name, 'stage_min'}
local flag, stop, kept = look_at_flags(KEYS[2], stops, more)
if flag then return {'denied', flag, '', 'nano', '', stop} end

look_at(caps, exchange, false)
local stage = 0
if stairs then  -- the stage in force, its floor considered; what can last is remembered
  local function reaches(ppm)
    for _, cap in ipairs(caps) do
      local limit = cap.stages and cap.limits[1]  -- shares of a balance say nothing
      if limit and cap.spent[1] + cap.held[1] >= share(limit, ppm) then return true end
    end
    return false
  end

  -- The stage in force by what is full, and since when. One that is left for a lower one keeps its
  -- time: the lower one began no later.
  local function climb(level, since)
    for i = #stairs, 1, -1 do
      if reaches(stairs[i].enter) then return i, i > level and now or since end
      if i <= level and stairs.name ~= ''
        and (now < since + stairs.dwell or reaches(stairs[i].leave)) then
        return i, since
      end
    end
    return 0, 0
  end

  local kept_level, since = match(kept[1] or '', '^(%d+) (%d+)$')
  local level = tonumber(kept_level or 0)
  since = tonumber(since or 0)
  local reached, began = climb(level, since)
  if stairs.name ~= '' and (reached ~= level or began ~= since) then
    if reached == 0 then
      call('HDEL', KEYS[2], 'stage:' .. stairs.name)
    else
      call('HSET', KEYS[2], 'stage:' .. stairs.name, text(reached) .. ' ' .. text(began))
    end
  end
  stage = max(reached, min(floor(tonumber(kept[2] or nil) or 0), #stairs))
end
local level = stairs and not stairs.shadow and stage or 0
local index, vector = 1, nil
if not runs then index, vector = choose(candidates, caps, level) end
local denial, worst = nil, nil
if not index then denial, worst = deny(candidates, caps, scopes, now, stairs, level, stage) end
if fault then return redis.error_reply(fault) end
if denial then
  if worst and worst.reason == 'spent' and worst.dimension == 1 then
    -- told once, see spending.lua for when it is news again; and once more when the cap is full,
    -- if a large request was refused long before
    local cap = caps[worst.cap]
    local scope, window = cap.scope, cap.window
    local limit = cap.limits[1]
    local key, field, full = scope.c, 'refused:' .. window.label, share(limit, REARM_PPM)
    local stood = tonumber(call('HGET', key, field) or nil)
    if not stood or (window.spent[1] >= full and stood < share(full, REARM_PPM)) then
      local again = text(share(min(window.spent[1], limit), REARM_PPM))
      if type(redis.pcall('HSET', key, field, again)) == 'number' then
        tell(KEYS[6], 'cap_refuses', scope, window, {ppm = 1000000, limit = limit}, now, tenant)
      end
    end
  end
  return denial
end

local chosen, shapes, version = candidates[index], {}, 1
local holds = vector or chosen.vector
local begins = {0, 0, holds[3]}
for i, scope in ipairs(scopes) do
  local shape = scope.name
  for _, window in ipairs(scope.windows) do
    if window.rate then spend(scope, window, begins) end
    if window.ms then
      shape = format('%s %s:%.0f:%.0f', shape, window.label, window.ms, window.count)
    else
      shape, version = format('%s %s:%s', shape, window.label, window.zone), 2
    end
  end
  shapes[i] = shape
  place(scope, exchange, holds, now, now + ttl)
end
local shadows = shadowed(caps, holds)
local verdict = {'held', text(index - 1), text(stage), vector_text(vector), shadows}
local expires = text(now + ttl)
local written = {exchange, cjson.encode({
  v = version, state = 'held', vector = vector_record(holds), scopes = shapes, owner = owner,
  upstream = chosen.upstream, created_ms = text(now), expires_ms = expires, ttl_ms = text(ttl),
  index = verdict[2], stage = verdict[3], shrunk = vector and '1' or nil,
  shadowed = shadows ~= '' and shadows or nil,
})}
if facts ~= '' then written[3], written[4] = exchange .. ':facts', facts end
call('HSET', KEYS[3], unpack(written))
call('ZADD', KEYS[5], expires, member(tenant, exchange))
return answer(verdict, scopes, now)
