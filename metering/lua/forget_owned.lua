#!lua flags=allow-oom
-- Forgets objects at a provider that are gone.
--
-- KEYS: the tenant's kept objects, its passing ones.
-- ARGV: the names.
-- Returns how many were known.

local known = 0
for _, key in ipairs(KEYS) do
  for _, name in ipairs(ARGV) do
    known = known + redis.call('ZREM', key, name)
  end
end
return known
