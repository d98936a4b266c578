-- Reserve what an attempt needs in all of its scopes, or in none. Runs after ledger_scope.lua.
--
-- KEYS[1]   the names of the scopes that have entries (set)
-- KEYS[2..] the scopes
-- ARGV[1]   the attempt
-- ARGV[2]   how long a scope is kept after its last use, seconds
-- ARGV[3..] seven a scope: its name, what is needed of each kind, the limit of each kind (empty: none)
--
-- Returns {'unknown', name, ..}: these scopes must be loaded;
--         {'granted', grant}: the name of this grant, the same each time it is asked for;
--         {'exceeded', {name, kind, used, held, generation}, ..}: more than what is left even without the others;
--         {'contended', ..} the same form: what others hold is in the way.
-- Keeps true: used + held + needed <= limit for every kind of every scope at the moment of granting. Once granted it
-- stays granted, however often it is asked. A loaded entry is not a grant: it is left out of the sums and asked anew.
-- Unless granted, no sum and no entry changes.
local WIDTH, FIRST = 7, 2
local attempt = ARGV[1]
local scopes, unknown = {}, {'unknown'}

for number = 2, #KEYS do
  local at = FIRST + (number - 2) * WIDTH
  local kept = redis.call('HMGET', KEYS[number], 'server', 'generation', 'attempt:' .. attempt, unpack(SUMS))
  if kept[1] ~= server then
    unknown[#unknown + 1] = ARGV[at + 1]
  else
    scopes[#scopes + 1] = {
      key = KEYS[number],
      name = ARGV[at + 1],
      needed = {ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]},
      limits = {tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])},
      generation = kept[2],
      own = read_entry(kept[3]),
      used = {kept[4], kept[5], kept[6]},
      held = {kept[7], kept[8], kept[9]},
    }
  end
end
if #unknown > 1 then
  return unknown
end

local function is_granted(scope)
  return scope.own ~= nil and scope.own.origin ~= 'loaded'
end

local exceeded, contended = {'exceeded'}, {'contended'}
for _, scope in ipairs(scopes) do
  redis.call('EXPIRE', scope.key, ARGV[2])
  for kind = 1, #KINDS do
    local limit, used, held = scope.limits[kind], tonumber(scope.used[kind]), tonumber(scope.held[kind])
    if limit and not is_granted(scope) then
      local needed, others = tonumber(scope.needed[kind]), held
      if scope.own then
        others = held - tonumber(scope.own.amounts[kind])
      end
      local shortfall = {scope.name, KINDS[kind], text(used), text(others), scope.generation}
      if needed > 0 and used + needed > limit then
        exceeded[#exceeded + 1] = shortfall
      elseif needed > 0 and used + others + needed > limit then
        contended[#contended + 1] = shortfall
        redis.call('HSET', scope.key, 'contended', redis.call('TIME')[1])
      end
    end
  end
end
if #exceeded > 1 then
  return exceeded
end
if #contended > 1 then
  return contended
end

local time = redis.call('TIME')
local grant = time[1] .. '-' .. time[2]
for _, scope in ipairs(scopes) do
  if scope.own and scope.own.origin == 'granted' then
    grant = scope.own.grant
  end
end
for _, scope in ipairs(scopes) do
  if not is_granted(scope) then
    if scope.own then
      add(scope.key, 'held', scope.own.amounts, '-')
    end
    write_entry(scope.key, attempt, scope.own and 'confirmed' or 'granted', grant, scope.needed)
    add(scope.key, 'held', scope.needed, '')
  end
  redis.call('SADD', KEYS[1], scope.name)
end
return {'granted', grant}
