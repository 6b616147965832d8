-- Looks which objects at providers are a tenant's.
--
-- KEYS: the tenant's kept objects, its passing ones: sorted sets of provider/id by Unix ms.
-- ARGV: ttl_ms of what is passing; then the names that are asked for.
-- Returns how many it keeps, then 1 or 0 per name.

local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local answers = {redis.call('ZCARD', KEYS[1])}
for i = 2, #ARGV do
  local passing = redis.call('ZSCORE', KEYS[2], ARGV[i])
  local is_owned = redis.call('ZSCORE', KEYS[1], ARGV[i]) or (passing and tonumber(passing) > since)
  answers[i] = is_owned and 1 or 0
end
return answers
