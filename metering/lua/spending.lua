-- What commit, release and recover share, after scopes.lua: adding to the windows of a scope, and
-- taking back what was added for an exchange that was recovered.

-- Adds a vector to one window, with the next `write` of the scope; the bucket it went to, as text,
-- or nil when there is nothing to add.
local function spend(scope, window, amounts)
  if amounts[1] == 0 and amounts[2] == 0 and amounts[3] == 0 then return nil end
  local label, bucket = window.label, text(window.current)
  local head = label .. ':' .. bucket .. ':'
  local there = call('HMGET', scope.c, head .. 'n', head .. 't', head .. 'r')
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
    window.current = max(window.current, floor(tonumber(string.match(id, '^%d+')) / window.ms))
  end
end

-- Takes as much out of one bucket as is still there, never below zero; a bucket that has left the
-- window took its amounts along. One that this empties stays until its time is over.
local function take_back(scope, window, bucket, amounts)
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
  local amounts = split(record.recovered)
  for _, scope in ipairs(scopes) do
    for _, window in ipairs(scope.windows) do
      local bucket = record.buckets[scope.name .. ' ' .. window.label]
      if bucket then take_back(scope, window, bucket, amounts) end
    end
  end
end

-- Undoes a recovery in the ledger: its reversals go to the stream.
local function append_reversals(records, exchange, stream)
  local reversals = call('HGET', records, exchange .. ':reversals') or ''
  for hash, body in string.gmatch(reversals, '(%x+) ([^\n]+)') do append(stream, body, hash) end
end

-- The record of an exchange that was recovered, or nil.
local function recovered_record(records, exchange)
  local record = call('HGET', records, exchange)
  if record then record = cjson.decode(record) end
  if record and record.state == 'recovered' then return record end
  return nil
end
