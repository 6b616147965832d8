-- What reserve, swap and renew share, after scopes.lua: flags, and until when a hold is kept.

-- The names of all that can be paused or killed here, beside the tenant.
local function take_stops()
  local stops = {}
  for i = 1, min(take_amount('stops'), #ARGV) do stops[i] = take() end
  return stops
end

-- The flag that stands in the way, or nil; the place of its stop ('' = the tenant's); and the
-- values of `more`, fields beside the flags. The tenant's comes first, a pause before a kill.
local function look_at_flags(state, stops, more)
  local fields = {'paused', 'killed'}
  for _, name in ipairs(stops) do
    fields[#fields + 1] = 'paused:' .. name
    fields[#fields + 1] = 'killed:' .. name
  end
  local count = #fields
  for i, field in ipairs(more or {}) do fields[count + i] = field end
  local got = call('HMGET', state, unpack(fields))
  for i = 1, count do
    if got[i] and got[i] ~= '0' then
      local place = floor((i - 1) / 2)
      return i % 2 == 1 and 'paused' or 'killed', place > 0 and text(place) or ''
    end
  end
  return nil, '', {unpack(got, count + 1)}
end

-- A sorted set that was emptied has lost its expiry, so each hold sets it again.
local function expire_at(scope, exchange, now, expires)
  call('ZADD', scope.z, text(expires), exchange)
  keep(scope, now, expires)
  call('PEXPIRE', scope.z, text(scope.till - now))
end
