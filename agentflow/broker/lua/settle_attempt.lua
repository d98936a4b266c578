-- End an attempt's reservation in its scopes: what it used stays, the rest is free. Runs after ledger_scope.lua.
--
-- KEYS[1]   the names of the scopes that have entries (set)
-- KEYS[2..] the scopes
-- ARGV[1]   the attempt
-- ARGV[2]   how long a scope is kept after its last use, seconds
-- ARGV[3]   for how many seconds after a contended answer somebody may wait for what becomes free
-- ARGV[4]   1 if it is given back because it was not used, else 0
-- ARGV[5]   the grant that its row names; empty: not known
-- ARGV[6..] four a scope: its name, what was used of each kind
--
-- Returns the names of the scopes whose waiting steps should be woken: something became free and somebody was refused
-- lately; or somebody gives back and nothing is reserved any more, so that nobody else would wake them.
-- Keeps true: what an attempt used is counted once. Without an entry nothing is: the load that wrote the scope knows of
-- it. An entry of another grant than the row's came after the attempt's end, by a reserve that the network held back; it
-- only goes. What was loaded is the attempt's whatever its grant.
local WIDTH, FIRST = 4, 5
local attempt, grant, woken = ARGV[1], ARGV[5], {}
local now = tonumber(redis.call('TIME')[1])

for number = 2, #KEYS do
  local key, at = KEYS[number], FIRST + (number - 2) * WIDTH
  local kept = redis.call('HMGET', key, 'server', 'contended', 'attempt:' .. attempt)
  if kept[1] == server then
    local own = read_entry(kept[3])
    if own then
      redis.call('HDEL', key, 'attempt:' .. attempt)
      add(key, 'held', own.amounts, '-')
      if own.origin ~= 'granted' or grant == '' or own.grant == grant then
        add(key, 'used', {ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]}, '')
      end
      redis.call('EXPIRE', key, ARGV[2])
    end
    local is_empty = redis.call('HLEN', key) == FIXED_FIELDS
    if is_empty then
      redis.call('SREM', KEYS[1], ARGV[at + 1])
    end
    local is_awaited = tonumber(kept[2]) + tonumber(ARGV[3]) >= now
    if is_awaited and (own or (is_empty and ARGV[4] == '1')) then
      woken[#woken + 1] = ARGV[at + 1]
    end
  end
end
return woken
