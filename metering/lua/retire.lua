-- Removes consumers of a group that are gone: silent for long, with nothing pending. Stands alone.
-- One script, because a consumer that is given an entry between the look and the removal would take
-- that entry out of the pending ones with it, and nobody would ever be given it again.
--
-- KEYS: 1 event stream.
-- ARGV: group, the consumer that asks (stays whatever it looks like), idle_ms.
-- Returns: the names that were removed.

local removed = {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  if consumer.name ~= ARGV[2] and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed[#removed + 1] = consumer.name
  end
end
return removed
