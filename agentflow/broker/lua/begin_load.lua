-- Begin to load a scope from Postgres. Runs after ledger_scope.lua.
--
-- KEYS[1]  the scope
-- ARGV[1]  a token of the loader's own
-- ARGV[2]  how long the loader may take, ms; then anybody may begin anew
--
-- Returns the token to finish with, or nothing if the scope is loaded or somebody else is at it.
-- Keeps true: from here until the load is finished nothing is granted in the scope. What began twice, by a message that
-- the network held back, is two loads: the snapshot of the first cannot finish the second.
if is_loaded(KEYS[1]) or redis.call('HEXISTS', KEYS[1], 'loading') == 1 then
  return ''
end
local time = redis.call('TIME')
local token = table.concat({ARGV[1], time[1], time[2]}, '-')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'loading', token)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return token
