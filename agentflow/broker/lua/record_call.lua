-- Record how an admitted call ended, and move its endpoint's circuit breaker.
--
-- KEYS[1]  the endpoint's breaker (hash)
-- KEYS[2]  the endpoints by the time of their last use (sorted set)
-- ARGV[1]  the endpoint
-- ARGV[2]  success | failure | withdrawn (it ended without telling anything of the endpoint)
-- ARGV[3]  when the breaker had opened last as the call was admitted; empty: not known
-- ARGV[4]  when the call's trial ends, 0 if it is no trial; empty: not known
-- ARGV[5]  failures in a row that open a closed breaker
-- ARGV[6]  successes that close a half-open one
-- ARGV[7]  how long a breaker is kept after its last use, ms
--
-- Returns the state of the breaker.
-- Keeps true: a call that was admitted before the breaker opened moves it no more; each report gives back no trial but
-- its own.
local endpoint, outcome, admitted_at, trial = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local failures_to_open, needed, life = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function text(number)
  return string.format('%.0f', number)
end

local function become(state)
  redis.call('HSET', KEYS[1], 'state', state, 'failures', '0', 'successes', '0', 'trials', '')
  if state == 'open' then
    redis.call('HSET', KEYS[1], 'opened_at', text(now))
  end
  return state
end

local function without_own(trials)
  local left, is_found = {}, false
  for ends in string.gmatch(trials, '%d+') do
    if not is_found and (trial == nil or tonumber(ends) == trial) then
      is_found = true
    else
      left[#left + 1] = ends
    end
  end
  return table.concat(left, ',')
end

if outcome ~= 'withdrawn' then
  redis.call('HINCRBY', KEYS[1], outcome == 'success' and 'successful' or 'failed', 1)
  redis.call('PEXPIRE', KEYS[1], life)
  redis.call('ZADD', KEYS[2], text(now), endpoint)
  redis.call('PEXPIRE', KEYS[2], life)
end

local kept = redis.call('HMGET', KEYS[1], 'state', 'opened_at', 'trials')
local state, opened_at = kept[1] or 'closed', tonumber(kept[2] or 0)
if state == 'open' or (admitted_at ~= nil and admitted_at < opened_at) then
  return state
end

if state == 'half_open' then
  redis.call('HSET', KEYS[1], 'trials', without_own(kept[3] or ''))
end
if outcome == 'failure' then
  if state == 'half_open' or redis.call('HINCRBY', KEYS[1], 'failures', 1) >= failures_to_open then
    return become('open')
  end
elseif outcome == 'success' then
  if state == 'closed' then
    redis.call('HSET', KEYS[1], 'failures', '0')
  elseif redis.call('HINCRBY', KEYS[1], 'successes', 1) >= needed then
    return become('closed')
  end
end
return state
