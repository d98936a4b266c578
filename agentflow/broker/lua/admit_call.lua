-- Admit a call to an endpoint, or refuse it while the endpoint's circuit breaker holds calls back.
--
-- KEYS[1]  the endpoint's breaker (hash)
-- KEYS[2]  the endpoints by the time of their last use (sorted set)
-- ARGV[1]  the endpoint
-- ARGV[2]  how long an open breaker lets nothing through, ms
-- ARGV[3]  successes that close a half-open breaker
-- ARGV[4]  how long a trial call may take to report, ms
-- ARGV[5]  how long a call that finds every trial taken is to wait at most, ms
-- ARGV[6]  how long a breaker is kept after its last use, ms
--
-- Returns {1, when it opened last (0: never), when the trial ends (0: no trial)} if admitted, else {0, ms to wait}.
-- Keeps true: while half-open, no more trials are out than successes are still needed; one that never reports is out
-- until its end only.
local endpoint, recovery, needed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local trial, patience, life = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function text(number)
  return string.format('%.0f', number)
end

local function refuse(wait)
  redis.call('HINCRBY', KEYS[1], 'rejected', 1)
  return {0, math.max(1, math.floor(wait))}
end

redis.call('HINCRBY', KEYS[1], 'total', 1)
redis.call('PEXPIRE', KEYS[1], life)
redis.call('ZADD', KEYS[2], text(now), endpoint)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(now - life))
redis.call('PEXPIRE', KEYS[2], life)

local kept = redis.call('HMGET', KEYS[1], 'state', 'opened_at', 'successes', 'trials')
local state, opened_at = kept[1] or 'closed', tonumber(kept[2] or 0)
local successes, trials = tonumber(kept[3] or 0), kept[4] or ''
if state == 'closed' then
  return {1, opened_at, 0}
end

if state == 'open' then
  if opened_at > now then -- another server's clock, before a failover
    opened_at = now
    redis.call('HSET', KEYS[1], 'opened_at', text(now))
  end
  if opened_at + recovery > now then
    return refuse(opened_at + recovery - now)
  end
  successes, trials = 0, ''
  redis.call('HSET', KEYS[1], 'state', 'half_open', 'successes', '0', 'trials', '')
end

local out, soonest = {}, now + patience
for ends in string.gmatch(trials, '%d+') do
  if tonumber(ends) > now then
    out[#out + 1] = ends
    soonest = math.min(soonest, tonumber(ends))
  end
end
if #out >= needed - successes then
  return refuse(soonest - now)
end
out[#out + 1] = text(now + trial)
redis.call('HSET', KEYS[1], 'trials', table.concat(out, ','))
return {1, opened_at, now + trial}
