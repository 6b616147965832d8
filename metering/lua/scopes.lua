-- What every verb shares: reading the arguments, the holds of a scope, its sliding windows.
-- The loader puts this file before each verb; it runs nothing by itself.
--
-- A scope is two declared keys. Hash `c:`: held:n held:t held:r, the totals held; h:<exchange>, one
-- open hold as "nano tokens requests"; until, Unix ms up to which the key is kept; and per window
-- label <label>:lo <label>:hi, first and last bucket with spend; <label>:n :t :r, its running
-- totals; <label>:<bucket>:n :t :r; told:<label>, the highest mark in nano-USD that was told, and
-- refused:<label>, under which spend a refusal is news again. Zset `z:`: exchange -> expiry, Unix ms.
-- So a scope drops its lapsed holds by itself, whatever other scopes those holds had.
--
-- ARGV of every verb begins: now_ms ('' = the server's clock, anything else is for tests), tenant,
-- exchange id, number of scopes, their names; then per scope: number of windows; per window: label,
-- bucket_ms, buckets, or for the days, weeks or months of a time zone: label, 0, zone, and of the
-- period that the caller's clock is in: number, start_ms, end_ms, end_ms of the one after. Redis'
-- time decides which of these, or of the one before, it is: a bucket like any other, with none
-- before it. The tenant's scope is the first. Amounts are decimal strings of nano-USD, tokens and
-- requests within 0 .. 2^53-1: doubles hold such numbers exactly, so sums are made here and
-- written in one HSET per scope; what would pass 2^53 is left to HINCRBY (int64). A Lua number is
-- never concatenated: it prints as 1e+14 from 1e14 on.

local MAX = 9007199254740991
local SWEEP = 64            -- lapsed holds dropped per scope and call: bounds what one call costs
local CHUNK = 64            -- buckets read per HMGET: 192 fields, far below the limit of unpack
local SLACK_MS = 3600000      -- a busy scope has its expiry pushed out once an hour, not every call
local RATE_MS = 3600000     -- windows up to this long count a request when it begins
local REARM_PPM = 950000    -- of a mark: spend that falls under it makes the mark news again
local NOTES_MAX = 10000
local DIMS = {'n', 't', 'r'}
local ZERO = {0, 0, 0}

local call, floor, max, min = redis.call, math.floor, math.max, math.min
local format, find, match, byte = string.format, string.find, string.match, string.byte
local ARGV = ARGV

local function text(number)
  return format('%.0f', number)
end

-- A share of an amount, rounded up. Exact: both parts stay within 2^53, fmod is not rounded.
local function share(amount, ppm)
  local low = math.fmod(amount, 1000000)
  return (amount - low) / 1000000 * ppm + math.ceil(low * ppm / 1000000)
end

local cursor, fault = 0, nil

local function take()
  cursor = cursor + 1
  if not ARGV[cursor] then fault = fault or 'BADARG too few arguments' end
  return ARGV[cursor] or ''
end

local function take_amount(what)
  local arg = ARGV[cursor + 1]
  if arg and #arg == 1 then  -- most are counts: half the time of what follows
    local digit = byte(arg) - 48
    if digit >= 0 and digit <= 9 then
      cursor = cursor + 1
      return digit
    end
  elseif arg and #arg <= 16 and find(arg, '^%d+$') then
    local number = tonumber(arg)
    if number <= MAX then
      cursor = cursor + 1
      return number
    end
  end
  arg = take()
  fault = fault or ('BADARG ' .. what .. ' is not an integer within 0 .. 2^53-1: ' .. arg)
  return 0
end

local function take_vector()
  return {take_amount('nano'), take_amount('tokens'), take_amount('requests')}
end

local function take_now()
  local arg = take()
  if arg == '' then
    local time = call('TIME')
    return tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
  end
  cursor = cursor - 1
  return take_amount('now_ms')
end

-- Tables are made with every field they will have: one allocation in place of four. For the same
-- reason there are few functions here: each is made anew with every call of a script.
local function take_window()
  local label, ms = take(), take_amount('bucket_ms')
  if ms == 0 then
    local window = {label = label, count = 0, zone = take(), number = take_amount('period'),
                    start = take_amount('start_ms'), stop = take_amount('end_ms'),
                    next_stop = take_amount('next_end_ms'), at = 0, here = 0, there = false,
                    lo = false, hi = false, texts = false, spent = false, current = 0}
    if window.start >= window.next_stop then fault = fault or 'BADARG an empty period' end
    return window, window.next_stop - window.start
  end
  local count = take_amount('buckets')
  if count < 1 then fault = fault or 'BADARG an empty window' end
  return {label = label, ms = ms, count = count, rate = ms * count <= RATE_MS, at = 0, here = 0,
          there = false, lo = false, hi = false, texts = false, spent = false, current = 0},
         ms * (count + 2)
end

-- The scopes, from KEYS[first_key] on in pairs.
local function take_scopes(first_key)
  local scopes = {}
  for i = 1, min(take_amount('scopes'), #KEYS) do
    local scope = {c = KEYS[first_key + 2 * i - 2], z = KEYS[first_key + 2 * i - 1],
                   name = take(), windows = {}, span = 0, fields = {}, texts = false,
                   held = false, till = 0, own = false, others = false}
    if not scope.z then fault = fault or 'BADARG fewer keys than scopes' end
    scopes[i] = scope
  end
  for _, scope in ipairs(scopes) do
    for j = 1, min(take_amount('windows'), #ARGV) do
      local window, span = take_window()
      scope.windows[j] = window
      if span > scope.span then scope.span = span end
    end
  end
  if #scopes == 0 then fault = fault or 'BADARG no scope' end
  return scopes
end

local function bucket_at(window, now)
  if window.ms then return floor(now / window.ms) end
  if now < window.start then return window.number - 1 end
  return now < window.stop and window.number or window.number + 1
end

-- When what is in this bucket counts no more.
local function leaves(window, bucket)
  if window.ms then return (bucket + window.count + 1) * window.ms end
  if bucket < window.number then return window.start end
  return bucket == window.number and window.stop or window.next_stop
end

-- What of a hold, or of its use, counts in this window: in a rate its requests have begun.
local function counted(window, amounts)
  return window.rate and {amounts[1], amounts[2], 0} or amounts
end

-- HINCRBY, skipping nothing-to-do; the new value as a string. Above 2^53 the reply has lost
-- digits on its way into Lua, so it is read back.
local function increase(key, field, by)
  local value = call('HINCRBY', key, field, by)
  if value > MAX or value < -MAX then return call('HGET', key, field) end
  return text(value)
end

-- Adds to what a field held at the last look, `before` as text. Within 2^53 the new value only joins
-- the fields that `write` will set. The new value as text.
local function add(scope, field, before, by)
  local number = tonumber(before)
  local sum = number + by
  if number > MAX or number < -MAX or sum > MAX or sum < -MAX then
    return increase(scope.c, field, text(by))
  end
  local fields, value = scope.fields, text(sum)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
  return value
end

-- Sets all that was added to a scope, in one command.
local function write(scope)
  if #scope.fields > 0 then call('HSET', scope.c, unpack(scope.fields)) end
  scope.fields = {}
end

local function split(hold)
  local n, t, r = match(hold, '^(%d+) (%d+) (%d+)$')
  return {n, t, r}
end

-- Adds a vector to one window, with the next `write` of the scope; the bucket it went to, as text,
-- or nil when there is nothing to add.
local function spend(scope, window, amounts)
  if amounts[1] == 0 and amounts[2] == 0 and amounts[3] == 0 then return nil end
  local label, bucket = window.label, text(window.current)
  local head = label .. ':' .. bucket .. ':'
  local there = window.there
  if not there or window.here ~= window.current then
    there = call('HMGET', scope.c, head .. 'n', head .. 't', head .. 'r')
  end
  window.there = nil
  for d = 1, 3 do
    if amounts[d] > 0 then
      add(scope, head .. DIMS[d], there[d] or '0', amounts[d])
      window.texts[d] = add(scope, label .. ':' .. DIMS[d], window.texts[d], amounts[d])
    end
  end
  if window.hi ~= window.current then
    window.lo, window.hi = window.lo or window.current, window.current
    local fields = scope.fields
    local at = #fields
    fields[at + 1], fields[at + 2] = label .. ':lo', text(window.lo)
    fields[at + 3], fields[at + 4] = label .. ':hi', bucket
  end
  return bucket
end

-- Appends to the notes of the shard. Protected: a note is not worth a commit that breaks half-way.
local function tell(notes, kind, scope, window, mark, now, tenant)
  redis.pcall('XADD', notes, 'MAXLEN', '~', NOTES_MAX, '*', 'n', cjson.encode({
    v = 1, kind = kind, tenant = tenant, scope = scope.name, window = window.label, at_ms = now,
    mark_ppm = mark.ppm, limit_nano = text(mark.limit), spent_nano = window.texts[1],
  }))
end

-- Gives one hold back to its scope; `hold` is the text of h:<exchange>.
-- The first command is one that Redis allows at maxmemory, and a script that has written may go
-- on writing: so ending a hold and all that follows it works on a full 6.2, without script flags.
local function give_back(scope, exchange, hold)
  call('ZREM', scope.z, exchange)
  call('HDEL', scope.c, 'h:' .. exchange)
  for d, value in ipairs(split(hold)) do
    if value ~= '0' then call('HINCRBY', scope.c, 'held:' .. DIMS[d], '-' .. value) end
  end
end

-- The same for the hold of a scope that was loaded; its totals are set by the next `write`.
local function give_back_loaded(scope, exchange)
  call('HDEL', scope.c, 'h:' .. exchange)
  for d, value in ipairs(split(scope.own)) do
    if value ~= '0' then
      scope.texts[d] = add(scope, 'held:' .. DIMS[d], scope.texts[d], -tonumber(value))
    end
  end
end

-- Drops up to SWEEP holds whose time is over. In the tenant's scope (`records` given) their record
-- is kept and marked, for the reaper to recover what was counted.
local function sweep(scope, now, records)
  local lapsed = call('ZRANGEBYSCORE', scope.z, '-inf', text(now), 'LIMIT', 0, SWEEP)
  for _, exchange in ipairs(lapsed) do
    local hold = call('HGET', scope.c, 'h:' .. exchange)
    if hold then give_back(scope, exchange, hold) else call('ZREM', scope.z, exchange) end
    local record = records and call('HGET', records, exchange)
    if record then
      record = cjson.decode(record)
      record.state = 'lapsed'
      call('HSET', records, exchange, cjson.encode(record))
    end
  end
end

-- An exchange in the shard's index of hold records (zset: when somebody should look at it).
local function member(tenant, exchange)
  return tenant .. '/' .. exchange
end

-- Removes a record and what is kept beside it.
local function forget(records, exchange)
  call('HDEL', records, exchange, exchange .. ':facts', exchange .. ':checkpoint',
       exchange .. ':reversals')
end

local function bucket_fields(window, first, last)
  local fields = {}
  for bucket = first, last do
    local head = window.label .. ':' .. text(bucket) .. ':'
    for d = 1, 3 do fields[#fields + 1] = head .. DIMS[d] end
  end
  return fields
end

local function set_spent(window, texts)
  window.texts, window.spent = {}, {}
  for d = 1, 3 do
    window.texts[d] = texts[d] or '0'
    window.spent[d] = tonumber(window.texts[d])
  end
end

-- Takes the buckets before `oldest` out of the totals and moves lo to the first bucket that still
-- holds spend. Each bucket is passed once, so this is O(1) amortised; after any absence it is at
-- most the window's own length.
local function drop_buckets(scope, window, oldest)
  local first, alive, empty = window.lo, nil, window.hi < oldest
  while first <= window.hi and not alive do
    local last = min(window.hi, first + CHUNK - 1)
    local fields, gone = bucket_fields(window, first, last), {}
    local values = call('HMGET', scope.c, unpack(fields))
    for i, value in ipairs(values) do
      local bucket = first + floor((i - 1) / 3)
      if value and bucket >= oldest then alive = bucket break end
      if value then
        gone[#gone + 1] = fields[i]
        if not empty and value ~= '0' then  -- a bucket may have been emptied; -0 is no integer
          call('HINCRBY', scope.c, window.label .. ':' .. DIMS[(i - 1) % 3 + 1], '-' .. value)
        end
      end
    end
    if #gone > 0 then call('HDEL', scope.c, unpack(gone)) end
    first = last + 1
  end
  local l = window.label
  if alive then
    window.lo = alive
    call('HSET', scope.c, l .. ':lo', text(alive))
    set_spent(window, call('HMGET', scope.c, l .. ':n', l .. ':t', l .. ':r'))
  else
    window.lo, window.hi = nil, nil
    call('HDEL', scope.c, l .. ':lo', l .. ':hi', l .. ':n', l .. ':t', l .. ':r')
    set_spent(window, {})
  end
end

-- Reads a scope in one HMGET and brings its windows up to now. A clock that steps back never makes
-- the newest bucket older: `current` is at least hi. `spends` says which windows will be added to,
-- so that their bucket is read along: 'rates', 'all' (with what was told), or nil.
local function load(scope, exchange, now, spends)
  local fields = {'held:n', 'held:t', 'held:r', 'until', 'h:' .. exchange, nil, nil, nil, nil, nil}
  for _, window in ipairs(scope.windows) do
    local l = window.label
    local at = #fields
    window.at, window.here = at, bucket_at(window, now)
    fields[at + 1], fields[at + 2], fields[at + 3] = l .. ':lo', l .. ':hi', l .. ':n'
    fields[at + 4], fields[at + 5] = l .. ':t', l .. ':r'
    if spends == 'all' or (spends and window.rate) then
      local head = l .. ':' .. text(window.here) .. ':'
      fields[at + 6], fields[at + 7], fields[at + 8] = head .. 'n', head .. 't', head .. 'r'
      if spends == 'all' then fields[at + 9], fields[at + 10] = 'refused:' .. l, 'told:' .. l end
    end
  end
  local got = call('HMGET', scope.c, unpack(fields))
  scope.texts, scope.held = {}, {}
  for d = 1, 3 do
    scope.texts[d] = got[d] or '0'
    scope.held[d] = tonumber(scope.texts[d])
  end
  scope.till = tonumber(got[4] or 0)
  scope.own = got[5]
  for _, window in ipairs(scope.windows) do
    local at, here = window.at, window.here
    window.lo, window.hi = tonumber(got[at + 1] or nil), tonumber(got[at + 2] or nil)
    set_spent(window, {got[at + 3], got[at + 4], got[at + 5]})
    if spends == 'all' or (spends and window.rate) then
      window.there = {got[at + 6], got[at + 7], got[at + 8]}
      if spends == 'all' then window.refused, window.told = got[at + 9], got[at + 10] end
    end
    if window.lo and window.lo < here - window.count then
      drop_buckets(scope, window, here - window.count)
    end
    window.current = max(here, window.hi or here)
  end
end

-- Lets an idle scope vanish once its longest window and its last hold are over, and never before:
-- `till` only grows, whoever calls with whichever windows. `last` is when the scope is last used.
local function keep(scope, now, last)
  local needed = last + scope.span
  if scope.till >= needed then return end
  scope.till = needed + SLACK_MS
  call('HSET', scope.c, 'until', text(scope.till))
  call('PEXPIRE', scope.c, text(scope.till - now))
end

-- Appends what Python needs for the CapStates: now_ms, then per scope held n t r, and per window
-- spent n t r and when room frees next ('' when nothing is spent).
local function answer(reply, scopes, now)
  reply[#reply + 1] = text(now)
  for _, scope in ipairs(scopes) do
    for d = 1, 3 do reply[#reply + 1] = scope.texts[d] end
    for _, window in ipairs(scope.windows) do
      for d = 1, 3 do reply[#reply + 1] = window.texts[d] end
      reply[#reply + 1] = window.lo and text(leaves(window, window.lo)) or ''
    end
  end
  return reply
end
