#!lua flags=allow-oom
-- Notes what a process saw of upstreams, and says what all have noted. Drops what is too old.
-- Runs when Redis is full, too: what it writes takes the place of what was there.
--
-- KEYS: the hash of notes, by process.
-- ARGV: the process; its note, '' to say nothing; ttl_ms of a note; how many are kept.
-- Returns now_ms, then of each note: the process, when it was noted (Unix ms), the note.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl, most = tonumber(ARGV[3]), tonumber(ARGV[4])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:', now) .. ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ttl)
end
local flat, notes = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #flat, 2 do
  local at, note = string.match(flat[i + 1], '^(%d+):(.*)$')
  at = tonumber(at)
  if at and at > now - ttl and at <= now + ttl then
    notes[#notes + 1] = {at = at, process = flat[i], note = note}
  else
    redis.call('HDEL', KEYS[1], flat[i])
  end
end
table.sort(notes, function(a, b)
  if a.at ~= b.at then return a.at > b.at end
  return a.process < b.process
end)
local answer = {string.format('%.0f', now)}
for i, each in ipairs(notes) do
  if i <= most then
    answer[#answer + 1] = each.process
    answer[#answer + 1] = string.format('%.0f', each.at)
    answer[#answer + 1] = each.note
  else
    redis.call('HDEL', KEYS[1], each.process)
  end
end
return answer
