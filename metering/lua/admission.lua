-- What reserve and swap share, after holding.lua: caps, candidates, stages, and the judgement between
-- them. The rules are metering/caps_choice.py.
--
-- ARGV after the scopes: number of caps; per cap: its scope and the window in it (both from 1), mode
-- (enforce, alert, shadow), limits of nano, tokens, requests and exchanges at once ('' = none). Then
-- number of candidates; per candidate: upstream, nano, tokens, requests, stage, elastic: '' or, in one
-- argument, nano, tokens, requests of the base, rate in pico-USD per token, the fewest tokens.
-- Then number of stops and their names.

local RANK = {held = 1, spent = 2, never = 3}
local DIMENSION = {'nano', 'tokens', 'requests', 'concurrent'}
local ELASTIC_MAX = 1000000000000  -- tokens: more is never held by a shrunk candidate

-- Places a hold in one scope; `expires` as a number.
local function place(scope, exchange, vector, now, expires)
  for d = 1, 3 do
    if vector[d] > 0 then
      scope.texts[d] = add(scope, 'held:' .. DIMS[d], scope.texts[d], vector[d])
    end
  end
  local fields = scope.fields
  fields[#fields + 1] = 'h:' .. exchange
  fields[#fields + 1] = format('%.0f %.0f %.0f', vector[1], vector[2], vector[3])
  write(scope)
  expire_at(scope, exchange, now, expires)
end

local function take_caps(scopes)
  local caps = {}
  for i = 1, min(take_amount('caps'), #ARGV) do
    local scope = scopes[take_amount('scope')]
    local window = scope and scope.windows[take_amount('window')]
    if not window then fault = fault or 'BADARG a cap without its window' end
    local mode = take()
    local cap = {scope = scope, window = window, mode = mode, enforced = mode == 'enforce',
                 stages = mode == 'enforce' and window and window.label ~= 'balance',
                 limits = {false, false, false, false}, bounded = {}, spent = false, held = false,
                 begun = false}
    if mode ~= 'enforce' and mode ~= 'alert' and mode ~= 'shadow' then
      fault = fault or 'BADARG a cap of an unknown mode'
    end
    for d = 1, 4 do
      if ARGV[cursor + 1] == '' then
        cursor = cursor + 1
      else
        cap.limits[d], cap.bounded[#cap.bounded + 1] = take_amount('limit'), d
      end
    end
    caps[i] = cap
  end
  return caps
end

local function take_candidates()
  local candidates = {}
  for i = 1, min(take_amount('candidates'), #ARGV) do
    local candidate = {upstream = take(), vector = {take_amount('nano'), take_amount('tokens'),
                                                    take_amount('requests'), 1},
                       stage = take_amount('stage'), elastic = take(), parts = false}
    candidates[i] = candidate
  end
  if #candidates == 0 then fault = fault or 'BADARG no candidate' end
  return candidates
end

-- What stands against each cap: spent, and held by others. What this exchange holds already is not
-- in its own way; nor, when it `has_begun`, is its own request in a window that counted it then.
local function look_at(caps, exchange, has_begun)
  for _, cap in ipairs(caps) do
    local scope, window = cap.scope, cap.window
    if not scope.others then
      local own = scope.own and split(scope.own) or ZERO
      scope.others = {}
      for d = 1, 3 do scope.others[d] = scope.held[d] - tonumber(own[d]) end
    end
    cap.spent, cap.held, cap.begun = window.spent, scope.others, has_begun and window.rate
    if window.rate then cap.held = {scope.others[1], scope.others[2], 0} end
    if cap.limits[4] then
      local running = call('ZCARD', scope.z)
      if call('ZSCORE', scope.z, exchange) then running = running - 1 end
      cap.spent = {window.spent[1], window.spent[2], window.spent[3], 0}
      cap.held = {cap.held[1], cap.held[2], cap.held[3], running}
    end
  end
end

-- Why `more` does not fit, or nil. Sums above 2^53 round, but never down past a limit below it.
local function refusal(spent, held, more, limit)
  if more > limit then return 'never' end
  if spent + more > limit then return 'spent' end
  if spent + held + more > limit then return 'held' end
  return nil
end

local function refused(cap, d, vector)
  local more = d == 3 and cap.begun and 0 or vector[d]
  return refusal(cap.spent[d], cap.held[d], more, cap.limits[d])
end

local function refuses(cap, vector)
  for _, d in ipairs(cap.bounded) do
    if refused(cap, d, vector) then return true end
  end
  return false
end

local function fits(vector, caps)
  for _, cap in ipairs(caps) do
    if cap.enforced and refuses(cap, vector) then return false end
  end
  return true
end

-- What of a hold can shrink, or nil: its argument is read by who needs it, for most fit as they are.
-- Whoever judges candidates looks at `fault` afterwards.
local function elastic_of(candidate)
  if candidate.elastic == '' then return nil end
  if not candidate.parts then
    local pattern, parts = '^(%d+) (%d+) (%d+) (%d+) (%d+)$', {}
    for i, digits in ipairs({match(candidate.elastic, pattern)}) do
      parts[i] = tonumber(digits)
      if parts[i] > MAX then fault = fault or 'BADARG elastic is not within 0 .. 2^53-1' end
    end
    if #parts < 5 then
      fault = fault or 'BADARG elastic is not five integers'
      return nil
    end
    candidate.parts = {base = {parts[1], parts[2], parts[3]}, rate = parts[4], least = parts[5]}
  end
  return candidate.parts
end

-- The price of so many tokens in nano-USD, rounded up. Exact for what is within 2^53: of the rate
-- only its last three digits can leave a fraction.
local function price(tokens, rate)
  local low = math.fmod(rate, 1000)
  return tokens * ((rate - low) / 1000) + math.ceil(tokens * low / 1000)
end

local function with_output(elastic, tokens)
  local base = elastic.base
  return {base[1] + price(tokens, elastic.rate), base[2] + tokens, base[3], 1}
end

-- The hold with as many output tokens as fit, or nil when that is too few.
local function shrunk(candidate, caps)
  local elastic = elastic_of(candidate)
  if not elastic then return nil end

  -- As many tokens as the room pays for, at most `tokens`: the quotient, set right by the exact price.
  local function affordable(room, rate, tokens)
    if room < 0 then return -1 end
    if rate == 0 or price(tokens, rate) <= room then return tokens end
    local guess = min(tokens, floor(room / rate * 1000))
    while guess > 0 and price(guess, rate) > room do guess = guess - 1 end
    while price(guess + 1, rate) <= room do guess = guess + 1 end
    return guess
  end

  local base = elastic.base
  local tokens = min(candidate.vector[2] - base[2], ELASTIC_MAX)
  for _, cap in ipairs(caps) do
    if cap.enforced and tokens >= 0 then
      if cap.limits[2] then
        tokens = min(tokens, cap.limits[2] - (cap.spent[2] + cap.held[2]) - base[2])
      end
      if cap.limits[1] and tokens >= 0 then
        local room = cap.limits[1] - (cap.spent[1] + cap.held[1]) - base[1]
        tokens = affordable(room, elastic.rate, tokens)
      end
    end
  end
  if tokens < 0 or tokens < elastic.least then return nil end
  local vector = with_output(elastic, tokens)
  return fits(vector, caps) and vector or nil
end

-- The first candidate that fits as it is, or else shrunk, and what it holds then: number and nil or
-- vector; nil when none does. Below `level` they are passed over.
local function choose(candidates, caps, level)
  for i, candidate in ipairs(candidates) do
    if candidate.stage >= level and fits(candidate.vector, caps) then return i, nil end
  end
  for i, candidate in ipairs(candidates) do
    local vector = candidate.stage >= level and shrunk(candidate, caps)
    if vector then return i, vector end
  end
  return nil, nil
end

-- The places, from 0, of the caps in shadow that would have refused: "0 2".
local function shadowed(caps, vector)
  local places = nil
  for i, cap in ipairs(caps) do
    if cap.mode == 'shadow' and refuses(cap, vector) then
      places = (places and places .. ' ' or '') .. text(i - 1)
    end
  end
  return places or ''
end

-- The denial of the candidate that takes least; the first of several alike.
local function deny(candidates, caps, scopes, now, stairs, level, stage)
  -- When the first buckets that together hold `need` of one dimension have left: ms, as a number.
  local function frees_at(scope, window, d, need)
    local freed = 0
    for first = window.lo, window.hi, CHUNK do
      local last = min(window.hi, first + CHUNK - 1)
      local values = call('HMGET', scope.c, unpack(bucket_fields(window, first, last)))
      for bucket = first, last do
        freed = freed + tonumber(values[3 * (bucket - first) + d] or 0)
        if freed >= need then return leaves(window, bucket) end
      end
    end
    return leaves(window, window.hi)
  end

  -- The smallest hold that this candidate could be admitted with.
  local function least(candidate)
    local elastic = elastic_of(candidate)
    if not elastic or elastic.least > candidate.vector[2] - elastic.base[2] then
      return candidate.vector
    end
    return with_output(elastic, elastic.least)
  end

  -- The hardest refusal of one candidate: never before spent before held; among `spent` the one that
  -- ends last, for only then will the request fit. A candidate that is passed over waits until the
  -- lowest stage above its own can end. nil when a stage lasts though nothing is as full any more.
  local function judge(candidate)
    local worst, vector = nil, least(candidate)
    local function weigh(k, d, reason, need)
      if not reason then return end
      local cap = caps[k]
      local found = {rank = RANK[reason], reason = reason, cap = k, dimension = d, at = 0}
      if reason == 'spent' then found.at = frees_at(cap.scope, cap.window, d, need) end
      if not worst or found.rank > worst.rank
        or (found.rank == worst.rank and found.at > worst.at) then
        worst = found
      end
    end
    for k, cap in ipairs(caps) do
      if cap.enforced then
        for _, d in ipairs(cap.bounded) do
          local more = d == 3 and cap.begun and 0 or vector[d]
          weigh(k, d, refused(cap, d, vector), cap.spent[d] + more - cap.limits[d])
        end
        if stairs and candidate.stage < level and cap.stages and cap.limits[1] then
          local last = share(cap.limits[1], stairs[candidate.stage + 1].leave) - 1
          weigh(k, 1, refusal(cap.spent[1], cap.held[1], 0, last), cap.spent[1] - last)
        end
      end
    end
    return worst
  end

  local function first_money()
    for k, cap in ipairs(caps) do
      if cap.enforced and cap.limits[1] then return text(k) end
    end
    return ''
  end

  local cheapest, amount = nil, nil
  for _, candidate in ipairs(candidates) do
    local takes = least(candidate)[1]
    if not cheapest or takes < amount then cheapest, amount = candidate, takes end
  end
  local worst = judge(cheapest)
  stage = text(stage or 0)
  if not worst then
    return answer({'denied', 'held', first_money(), 'nano', '', '', stage}, scopes, now)
  end
  local at = worst.at > 0 and text(worst.at) or ''
  local verdict = {'denied', worst.reason, text(worst.cap), DIMENSION[worst.dimension], at, '', stage}
  return answer(verdict, scopes, now), worst
end

local function vector_record(vector)
  return {nano = text(vector[1]), tokens = text(vector[2]), requests = text(vector[3])}
end

local function vector_text(vector)
  return vector and format('%.0f %.0f %.0f', vector[1], vector[2], vector[3]) or ''
end
