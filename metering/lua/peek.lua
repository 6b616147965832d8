#!lua flags=allow-oom,no-writes
-- Reads the scopes of a request as they stand, and changes nothing: for who asks and holds nothing.
-- What has left a window or lapsed is still there; the reader leaves it out (metering/scope_reading).
-- Of the holds only those that have lapsed are read: what all of them hold is a total of the scope.
--
-- KEYS: 1 epoch, 2 state flags, then per scope hash and zset.
-- ARGV: now_ms ('' = the server's clock), then per scope the number of its windows and their labels.
-- Returns: now_ms; 1, or 0 while the windows are being rebuilt; the state hash as a flat list; then of
-- each scope: {held n, t, r}; how many hold; of those that have lapsed "nano tokens requests"; and per
-- window a list: the first bucket, then n, t, r of it and of those that follow.

local CHUNK = 64  -- as in scopes.lua: far below the limit of unpack
local SPAN = 4096  -- buckets of one window that are read at most, the latest; there are a few hundred
local call = redis.call

local cursor = 0
local function take()
  cursor = cursor + 1
  return ARGV[cursor]
end

local function many(key, names)
  local found = {}
  for first = 1, #names, CHUNK do
    local last = math.min(first + CHUNK - 1, #names)
    for i, value in ipairs(call('HMGET', key, unpack(names, first, last))) do
      found[first + i - 1] = value or ''
    end
  end
  return found
end

local function buckets(key, label)
  local edges = call('HMGET', key, label .. ':lo', label .. ':hi')
  local lo, hi = tonumber(edges[1] or nil), tonumber(edges[2] or nil)
  if not lo or not hi then return {} end
  lo = math.max(lo, hi - SPAN)
  local names = {}
  for bucket = lo, hi do
    local head = label .. ':' .. string.format('%.0f', bucket) .. ':'
    names[#names + 1] = head .. 'n'
    names[#names + 1] = head .. 't'
    names[#names + 1] = head .. 'r'
  end
  local found = many(key, names)
  table.insert(found, 1, string.format('%.0f', lo))
  return found
end

local now = take()
if now == '' then
  local time = call('TIME')
  now = string.format('%s%03d', time[1], math.floor(tonumber(time[2]) / 1000))
end
local found = {now, call('EXISTS', KEYS[1]), call('HGETALL', KEYS[2])}
for i = 3, #KEYS, 2 do
  local lapsed, names = call('ZRANGEBYSCORE', KEYS[i + 1], '-inf', now), {}
  for place, exchange in ipairs(lapsed) do names[place] = 'h:' .. exchange end
  found[#found + 1] = many(KEYS[i], {'held:n', 'held:t', 'held:r'})
  found[#found + 1] = call('ZCARD', KEYS[i + 1])
  found[#found + 1] = many(KEYS[i], names)
  for _ = 1, tonumber(take()) do found[#found + 1] = buckets(KEYS[i], take()) end
end
return found
