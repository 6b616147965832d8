-- Claims a request by the key of its client, unless it is being answered, or was.
--
-- KEYS: 1 the claim (string), 2 the shard's shelf of repeats (hash).
-- ARGV: name of the entry, digest of the question, token of who asks, ttl_ms of the claim.
-- Returns: free | busy | other; or: done, age in ms, the answer as it was kept.
-- A claim is `<digest> <token>`; an entry is as in find_reply.lua, and its reply begins with
-- `{"digest":"<digest>"`.

local digest, mine = ARGV[2], ARGV[2] .. ' ' .. ARGV[3]
local held = redis.call('GET', KEYS[1])
if held and held ~= mine then
  return {string.sub(held, 1, #digest + 1) == digest .. ' ' and 'busy' or 'other'}
end
local entry = redis.call('HGET', KEYS[2], ARGV[1])
local since, till, at = string.match(entry or '', '^(%d+) (%d+)\n()')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if since and tonumber(till) > now then
  local head = '{"digest":"' .. digest .. '"'
  if string.sub(entry, at, at + #head - 1) ~= head then return {'other'} end
  return {'done', string.format('%.0f', math.max(0, now - tonumber(since))), string.sub(entry, at)}
end
redis.call('SET', KEYS[1], mine, 'PX', ARGV[4])
return {'free'}
