-- Keeps a reply under the bounds of its shelf; what is nearest to its end makes room. Has no flag
-- for a Redis that is full: then caps need what is left, and nothing is kept.
--
-- KEYS: the shard's shelf: 1 entries (hash), 2 sizes (hash), 3 their ends (zset), and 4 the ends of
--       the owner's own (zset).
-- ARGV: owner, name of the entry, which begins with the owner and a slash; the reply; ttl_ms; most
--       bytes of the shard, of the owner, of an entry; bytes of an entry beside its reply.
-- Returns: how many made room, or -1 where it does not fit.
-- In sizes `=` is the sum, `=<owner>` that of an owner. Of the owner's ends some may be of entries
-- that are gone by now: they made room for others.

local call, ROUNDS = redis.call, 4096
local owner, name, reply = ARGV[1], ARGV[2], ARGV[3]
local ttl, most, own_most = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local size = #reply + tonumber(ARGV[8])
if size > math.min(most, own_most, tonumber(ARGV[7])) then return -1 end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end

local function sum(field) return tonumber(call('HGET', KEYS[2], field) or '0') end

-- How many bytes it gave back.
local function drop(entry)
  local bytes = tonumber(call('HGET', KEYS[2], entry) or '0')
  local whose = string.match(entry, '^([^/]+)/')
  call('HDEL', KEYS[1], entry)
  call('ZREM', KEYS[3], entry)
  if whose == owner then call('ZREM', KEYS[4], entry) end
  if bytes == 0 then return 0 end
  call('HDEL', KEYS[2], entry)
  call('HINCRBY', KEYS[2], '=', '-' .. text(bytes))
  if call('HINCRBY', KEYS[2], '=' .. whose, '-' .. text(bytes)) <= 0 then
    call('HDEL', KEYS[2], '=' .. whose)
  end
  return bytes
end

drop(name)
for _, entry in ipairs(call('ZRANGEBYSCORE', KEYS[3], '-inf', text(now), 'LIMIT', 0, 256)) do
  drop(entry)
end
local gone = 0
local function make_room(ends, field, bound)
  for _ = 1, ROUNDS do
    if sum(field) + size <= bound then return true end
    local oldest = call('ZRANGE', ends, 0, 0)[1]
    if not oldest then return false end
    if drop(oldest) > 0 then gone = gone + 1 else call('ZREM', ends, oldest) end
  end
  return false
end
if not make_room(KEYS[4], '=' .. owner, own_most) then return -1 end
if not make_room(KEYS[3], '=', most) then return -1 end

local till = now + ttl
call('HSET', KEYS[1], name, text(now) .. ' ' .. text(till) .. '\n' .. reply)
call('HSET', KEYS[2], name, text(size))
call('HINCRBY', KEYS[2], '=', text(size))
call('HINCRBY', KEYS[2], '=' .. owner, text(size))
call('ZADD', KEYS[3], text(till), name)
call('ZADD', KEYS[4], text(till), name)
-- All end with the last of their entries, in the same moment: the sums must never outlive what they
-- are of, nor the other way round.
local left = call('PTTL', KEYS[1])
if left < ttl then
  for i = 1, 3 do call('PEXPIREAT', KEYS[i], text(till + 1000)) end
end
if call('PTTL', KEYS[4]) < ttl then call('PEXPIREAT', KEYS[4], text(till + 1000)) end
return gone
