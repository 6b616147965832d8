-- Reads what was noted of batches at a provider.
--
-- KEYS: a note each, of one tenant.
-- Returns the notes in the order of the keys, an empty text where there is none.

local found = redis.call('MGET', unpack(KEYS))
for i = 1, #KEYS do
  found[i] = found[i] or ''
end
return found
