-- Claims events that were reported from outside: who is first with an id says what it stands for.
--
-- KEYS: per event its record, all of one slot.
-- ARGV: ttl_ms of a claim that is not kept; then per event the digest of what was said.
-- Returns per event: free (nobody has recorded it) | recorded (the same was) | other (not the same).
-- A record is the digest, with a `+` behind it once the event was recorded (keep_claims.lua).

local answers = {}
for i, key in ipairs(KEYS) do
  local digest, there = ARGV[i + 1], redis.call('GET', key)
  if not there then
    redis.call('SET', key, digest, 'PX', ARGV[1])
    answers[i] = 'free'
  elseif there == digest then
    answers[i] = 'free'
  else
    answers[i] = there == digest .. '+' and 'recorded' or 'other'
  end
end
return answers
