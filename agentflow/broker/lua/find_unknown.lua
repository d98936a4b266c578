-- Find the scopes that must be loaded. Runs after ledger_scope.lua.
--
-- KEYS  the scopes
-- ARGV  their names
--
-- Returns the names of those that are missing, or being loaded.
local unknown = {}
for number = 1, #KEYS do
  if not is_loaded(KEYS[number]) then
    unknown[#unknown + 1] = ARGV[number]
  end
end
return unknown
