-- What the scripts of the ledger share; it goes before each of them.
--
-- A scope is a hash:
--   server        the run id of the Redis that it was loaded into
--   generation    the token of the load that wrote it
--   contended     when a reserve found others in its way here last, seconds of the server's clock; 0: never
--   used_<kind>   what ended attempts used
--   held_<kind>   the sum of the entries
--   attempt:<id>  one entry an outstanding attempt: "<origin> <grant> <steps> <tokens> <usd_nano>"
-- or, while it is loaded, only
--   loading       the token of the loader
-- The origin of an entry is `granted` (a reserve wrote it), `loaded` (the load found it in Postgres: counted, but
-- nobody was told that it is granted) or `confirmed` (loaded, then granted). The grant names the reserve that wrote it, `-`
-- for a loaded one.
--
-- Keeps true: what another server process wrote counts as missing. A Redis that comes back with the data of a moment
-- ago, or a replica that takes over, must not be believed.
local KINDS = {'steps', 'tokens', 'usd_nano'}
local SUMS = {'used_steps', 'used_tokens', 'used_usd_nano', 'held_steps', 'held_tokens', 'held_usd_nano'}
local FIXED_FIELDS = 9
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')

local function is_loaded(key)
  return redis.call('HGET', key, 'server') == server
end

local function read_entry(value)
  if not value then
    return nil
  end
  local origin, grant, steps, tokens, usd_nano = string.match(value, '^(%a+) (%S+) (%d+) (%d+) (%d+)$')
  return {origin = origin, grant = grant, amounts = {steps, tokens, usd_nano}}
end

local function write_entry(key, attempt, origin, grant, amounts)
  local value = table.concat({origin, grant, amounts[1], amounts[2], amounts[3]}, ' ')
  redis.call('HSET', key, 'attempt:' .. attempt, value)
end

local function add(key, sum, amounts, sign)
  for kind = 1, #KINDS do
    if amounts[kind] ~= '0' then
      redis.call('HINCRBY', key, sum .. '_' .. KINDS[kind], sign .. amounts[kind])
    end
  end
end

local function text(number)
  return string.format('%.0f', number)
end
