-- Write a scope as one snapshot of Postgres says it. Runs after ledger_scope.lua.
--
-- KEYS[1]   the names of the scopes that have entries (set)
-- KEYS[2]   the scope
-- ARGV[1]   the token that begin_load gave out
-- ARGV[2]   how long a scope is kept after its last use, seconds
-- ARGV[3]   the scope's name
-- ARGV[4..6] what ended attempts used of each kind
-- ARGV[7..] four an outstanding attempt: its id, what it reserved of each kind
--
-- Returns 1, or 0 if the load took too long or was forgotten; then nothing is written.
-- Keeps true: the snapshot was taken after the token was set, and nothing was granted since. The entries are counted and
-- not granted.
local WIDTH, FIRST = 4, 6
local key = KEYS[2]
if redis.call('HGET', key, 'loading') ~= ARGV[1] then
  return 0
end
redis.call('DEL', key)
redis.call('HSET', key, 'server', server, 'generation', ARGV[1], 'contended', '0')
for number, sum in ipairs(SUMS) do
  redis.call('HSET', key, sum, number <= #KINDS and ARGV[3 + number] or '0')
end
for at = FIRST, #ARGV - WIDTH, WIDTH do
  local amounts = {ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]}
  write_entry(key, ARGV[at + 1], 'loaded', '-', amounts)
  add(key, 'held', amounts, '')
end
redis.call('EXPIRE', key, ARGV[2])
if redis.call('HLEN', key) > FIXED_FIELDS then
  redis.call('SADD', KEYS[1], ARGV[3])
end
return 1
