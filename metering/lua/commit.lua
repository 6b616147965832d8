#!lua flags=allow-oom
-- Ends a hold, adds the true amounts to every window of every scope, appends the events: one step.
-- Idempotent on the exchange id by its marker. A hold that lapsed is no obstacle: what was used
-- was used. Works when Redis is at maxmemory (the flag above; on 6.2 see give_back).
--
-- KEYS: 1 commit markers, 2 hold records, 3 event stream, then per scope hash and zset.
-- ARGV: as in scopes.lua, then nano, tokens, requests, marker's ttl_ms, number of events; per
--       event: body, sha256 of the body in hex.
-- Returns strings: committed|late, states; or: repeat.
-- Errors: BADARG.

local now, exchange = take_now(), take()
local scopes = take_scopes(4)
local actual = take_vector()
local marker_ttl = take_amount('marker ttl_ms')
local events = take_amount('events')
if #ARGV ~= cursor + 2 * events then fault = fault or 'BADARG events and their hashes' end
if fault then return redis.error_reply(fault) end

local marker = call('HGET', KEYS[1], exchange)
if marker and marker ~= 'released' then return {'repeat'} end

call('HDEL', KEYS[2], exchange)
local in_time = false
for i, scope in ipairs(scopes) do
  local hold = call('HGET', scope.c, 'h:' .. exchange)
  if hold then
    give_back(scope, exchange, hold)
    if i == 1 then in_time = true end
  end
  sweep(scope, now, i == 1 and KEYS[2])
  load(scope, exchange, now)
end

-- One call per scope makes the bookkeeping fields, so that a fresh scope is not written piecemeal.
for _, scope in ipairs(scopes) do
  local fields = {'keep', text(scope.keep)}
  for _, window in ipairs(scope.windows) do
    local head = window.label .. ':' .. text(window.current) .. ':'
    local used = false
    for d = 1, 3 do
      if actual[d] > 0 then
        local by = text(actual[d])
        used = true
        call('HINCRBY', scope.c, head .. DIMS[d], by)
        window.texts[d] = increase(scope.c, window.label .. ':' .. DIMS[d], by)
      end
    end
    if used then
      window.lo, window.hi = window.lo or window.current, window.current
      for _, part in ipairs({'lo', 'hi'}) do
        fields[#fields + 1] = window.label .. ':' .. part
        fields[#fields + 1] = text(window[part])
      end
    end
  end
  call('HSET', scope.c, unpack(fields))
  touch(scope, now)
end

for i = 1, events do
  call('XADD', KEYS[3], '*', 'e', ARGV[cursor + 2 * i - 1], 'h', ARGV[cursor + 2 * i])
end
local result = in_time and 'committed' or 'late'
call('HSET', KEYS[1], exchange, result)
call('PEXPIRE', KEYS[1], text(marker_ttl))
return answer({result}, scopes, now)
