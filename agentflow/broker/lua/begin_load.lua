-- Begin to load a scope from Postgres. Runs after ledger_scope.lua.
--
-- KEYS[1]  the scope
-- ARGV[1]  the loader's token
-- ARGV[2]  how long the loader may take, ms; then anybody may begin anew
--
-- Returns 'begun', 'loading' (somebody else does) or 'loaded'.
-- Keeps true: from here until the load is finished nothing is granted in the scope.
if is_loaded(KEYS[1]) then
  return 'loaded'
end
if redis.call('HEXISTS', KEYS[1], 'loading') == 1 then
  return 'loading'
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'loading', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'begun'
