-- Take reports for the leading dispatcher, oldest first.
--
-- KEYS[1]  the reports (list, newest first)
-- KEYS[2]  those that were taken and not acted on yet (list, oldest first)
-- ARGV[1]  how many to take at most
--
-- Returns what is taken and not acted on.
-- Keeps true: a report is in one of the two lists until somebody says that it was acted on. What a leader left that was
-- killed comes first.
if redis.call('LLEN', KEYS[2]) == 0 then
  for _ = 1, tonumber(ARGV[1]) do
    if not redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'RIGHT') then
      break
    end
  end
end
return redis.call('LRANGE', KEYS[2], 0, -1)
