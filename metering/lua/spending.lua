-- What commit, release and recover share, after scopes.lua: appending events, telling marks, and
-- taking back what was added to the windows for an exchange that was recovered.

-- Fails, before anything was written, where a key is of another type than ours.
local function require_types(records, stream, open, scopes)
  call('HLEN', records)
  call('XLEN', stream)
  call('ZCARD', open)
  for _, scope in ipairs(scopes) do
    call('HLEN', scope.c)
    call('ZCARD', scope.z)
  end
end

-- The id that the event got.
local function append(stream, body, hash)
  return call('XADD', stream, '*', 'e', body, 'h', hash)
end

-- The bucket of an event is that of its id, which is what the ledger keeps; Redis takes the time for
-- an id anew, so it may be later than `now`. A clock of the caller's (tests) is left alone.
local function at_bucket_of(window, id)
  if id and ARGV[1] == '' then
    window.current = max(window.current, bucket_at(window, tonumber(match(id, '^%d+'))))
  end
end

-- Takes as much out of one bucket as is still there, never below zero; a bucket that has left the
-- window took its amounts along. One that this empties stays until its time is over.
local function take_back(scope, window, bucket, amounts)
  window.there = nil
  for d = 1, 3 do
    local field = window.label .. ':' .. bucket .. ':' .. DIMS[d]
    local there = tonumber(call('HGET', scope.c, field) or '0')
    local by = min(there, tonumber(amounts[d]))
    if by > 0 then
      call('HINCRBY', scope.c, field, '-' .. text(by))
      window.texts[d] = increase(scope.c, window.label .. ':' .. DIMS[d], '-' .. text(by))
    end
  end
end

-- Undoes a recovery in the windows; `record` is the decoded record, the scopes are loaded.
local function take_recovery_back(record, scopes)
  local recovered = split(record.recovered)
  for _, scope in ipairs(scopes) do
    for _, window in ipairs(scope.windows) do
      local bucket = record.buckets[scope.name .. ' ' .. window.label]
      if bucket then take_back(scope, window, bucket, counted(window, recovered)) end
    end
  end
end

-- Undoes a recovery in the ledger: its reversals go to the stream.
local function append_reversals(records, exchange, stream)
  local reversals = call('HGET', records, exchange .. ':reversals') or ''
  for hash, body in string.gmatch(reversals, '(%x+) ([^\n]+)') do append(stream, body, hash) end
end

-- The record as it is kept, decoded, if the exchange was recovered, or nil.
local function recovered_record(record)
  if record then record = cjson.decode(record) end
  if record and record.state == 'recovered' then return record end
  return nil
end

-- Per mark its window of a scope (both from 1), nano-USD, parts per million, limit; lowest first.
local function take_marks(scopes)
  for _ = 1, min(take_amount('marks'), #ARGV) do
    local scope = scopes[take_amount('scope')]
    local window = scope and scope.windows[take_amount('window')]
    local mark = {at = take_amount('mark'), ppm = take_amount('ppm'), limit = take_amount('limit')}
    if not window then
      fault = fault or 'BADARG a mark without its window'
      return
    end
    window.marks = window.marks or {}
    window.marks[#window.marks + 1] = mark
  end
end

-- Before anything is added: what spend has fallen far enough under is news again.
local function rearm(scope, window)
  local spent = tonumber(window.texts[1])  -- a recovery may have been taken back meanwhile
  if window.refused and spent < tonumber(window.refused) then
    call('HDEL', scope.c, 'refused:' .. window.label)
  end
  local told, still = tonumber(window.told or 0), 0
  if not window.marks then return end
  if told > 0 and spent < share(told, REARM_PPM) then
    for _, mark in ipairs(window.marks) do
      if mark.at <= told and spent >= share(mark.at, REARM_PPM) then still = max(still, mark.at) end
    end
    told = still
  end
  window.armed = told
end

-- After something was added: the marks that this crossed.
local function tell_marks(notes, tenant, scope, window, now)
  if not window.marks then return end
  local spent, told = tonumber(window.texts[1]), window.armed
  for _, mark in ipairs(window.marks) do
    if told < mark.at and mark.at <= spent then
      tell(notes, 'cap_mark', scope, window, mark, now, tenant)
    end
  end
  for _, mark in ipairs(window.marks) do
    if mark.at <= spent then told = max(told, mark.at) end
  end
  if told == tonumber(window.told or 0) then return end
  if told == 0 then
    call('HDEL', scope.c, 'told:' .. window.label)
  else
    scope.fields[#scope.fields + 1] = 'told:' .. window.label
    scope.fields[#scope.fields + 1] = text(told)
  end
end
