-- Forget a scope, so that its next use loads it from Postgres. Runs after ledger_scope.lua.
--
-- KEYS[1]  the names of the scopes that have entries (set)
-- KEYS[2]  the scope
-- ARGV[1]  the scope's name
-- ARGV[2]  the generation that is meant
--
-- Returns 1 if it was forgotten. A scope that was loaded anew since, or is being loaded, stays.
if not is_loaded(KEYS[2]) then
  redis.call('SREM', KEYS[1], ARGV[1])
  return 0
end
if redis.call('HGET', KEYS[2], 'generation') ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[1], ARGV[1])
return 1
