-- What reserve and swap share, after scopes.lua: caps, candidates, and the judgement between them.
--
-- ARGV after the scopes: number of caps; per cap: its scope and the window in it (both from 1),
-- limits of nano, tokens and requests ('' = none). Then number of candidates; per candidate:
-- upstream, nano, tokens, requests, number of thresholds (0 or one per cap), the thresholds:
-- the candidate is passed over once spent + held has reached it ('' = never).

local RANK = {held = 1, spent = 2, never = 3}
local DIMENSION = {'nano', 'tokens', 'requests'}

local function take_optional(what)
  local number = nil
  if ARGV[cursor + 1] == '' then cursor = cursor + 1 else number = take_amount(what) end
  return number
end

local function take_caps(scopes)
  local caps = {}
  for i = 1, min(take_amount('caps'), #ARGV) do
    local scope = scopes[take_amount('scope')]
    local window = scope and scope.windows[take_amount('window')]
    if not window then fault = fault or 'BADARG a cap without its window' end
    caps[i] = {scope = scope, window = window, limits = {}}
    for d = 1, 3 do caps[i].limits[d] = take_optional('limit') or false end
  end
  return caps
end

local function take_candidates()
  local candidates = {}
  for i = 1, min(take_amount('candidates'), #ARGV) do
    local candidate = {upstream = take(), vector = take_vector(), thresholds = {}}
    for k = 1, min(take_amount('thresholds'), #ARGV) do
      candidate.thresholds[k] = take_optional('threshold') or false
    end
    candidates[i] = candidate
  end
  if #candidates == 0 then fault = fault or 'BADARG no candidate' end
  return candidates
end

-- Why `more` does not fit, or nil. Sums above 2^53 round, but never down past a limit below it.
local function refusal(spent, held, more, limit)
  if more > limit then return 'never' end
  if spent + more > limit then return 'spent' end
  if spent + held + more > limit then return 'held' end
  return nil
end

-- What this exchange holds already is not in its own way: scope.others = held without it.
local function set_others(scopes)
  for _, scope in ipairs(scopes) do
    local own = scope.own and split(scope.own) or ZERO
    scope.others = {}
    for d = 1, 3 do scope.others[d] = scope.held[d] - tonumber(own[d]) end
  end
end

local function is_passed_over(candidate, caps)
  for k, cap in ipairs(caps) do
    local threshold = candidate.thresholds[k]
    if threshold and cap.window.spent[1] + cap.scope.others[1] >= threshold then return true end
  end
  return false
end

local function fits(candidate, caps)
  for _, cap in ipairs(caps) do
    for d = 1, 3 do
      if cap.limits[d] and refusal(cap.window.spent[d], cap.scope.others[d],
                                   candidate.vector[d], cap.limits[d]) then
        return false
      end
    end
  end
  return true
end

-- The first candidate that fits and whether one before it was passed over: number or nil, boolean.
local function choose(candidates, caps)
  local passed = false
  for i, candidate in ipairs(candidates) do
    if is_passed_over(candidate, caps) then
      passed = true
    elseif fits(candidate, caps) then
      return i, passed
    end
  end
  return nil, passed
end

-- The hardest refusal of one candidate: never before spent before held; among `spent` the one that
-- ends last, for only then will the request fit. A threshold is a limit one below it for nothing.
local function judge(candidate, caps)
  local worst = nil
  local function weigh(k, d, more, limit)
    local cap = caps[k]
    local reason = refusal(cap.window.spent[d], cap.scope.others[d], more, limit)
    if not reason then return end
    local found = {rank = RANK[reason], reason = reason, cap = k, dimension = d, at = 0}
    if reason == 'spent' then
      found.at = frees_at(cap.scope, cap.window, d, cap.window.spent[d] + more - limit)
    end
    if not worst or found.rank > worst.rank
      or (found.rank == worst.rank and found.at > worst.at) then
      worst = found
    end
  end
  for k, cap in ipairs(caps) do
    for d = 1, 3 do
      if cap.limits[d] then weigh(k, d, candidate.vector[d], cap.limits[d]) end
    end
    if candidate.thresholds[k] then weigh(k, 1, 0, candidate.thresholds[k] - 1) end
  end
  return worst
end

-- The denial of the cheapest candidate; the first of several at one price.
local function deny(candidates, caps, scopes, now)
  local cheapest = candidates[1]
  for _, candidate in ipairs(candidates) do
    if candidate.vector[1] < cheapest.vector[1] then cheapest = candidate end
  end
  local worst = judge(cheapest, caps)
  local at = worst.at > 0 and text(worst.at) or ''
  return answer({'denied', worst.reason, text(worst.cap), DIMENSION[worst.dimension], at},
                scopes, now)
end

-- The flag that stands in the way, or nil: paused, killed, killed:<scope name>.
local function stop_flag(state, scopes)
  local fields = {'paused', 'killed'}
  for i = 2, #scopes do fields[i + 1] = 'killed:' .. scopes[i].name end
  for i, flag in ipairs(call('HMGET', state, unpack(fields))) do
    if flag and flag ~= '0' then return i == 1 and 'paused' or 'killed' end
  end
  return nil
end

local function vector_record(vector)
  return {nano = text(vector[1]), tokens = text(vector[2]), requests = text(vector[3])}
end
