-- Read a scope at one moment. Runs after ledger_scope.lua.
--
-- KEYS[1]  the scope
--
-- Returns its fields and values in turn, nothing if it is not loaded.
if not is_loaded(KEYS[1]) then
  return {}
end
return redis.call('HGETALL', KEYS[1])
