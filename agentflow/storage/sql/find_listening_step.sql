-- Which step of a run a signal is for: of those that wait for it the first by position.
-- Parameters: run_id, name
SELECT id FROM step
WHERE run_id = :run_id AND state = 'held'
  AND reason ->> 'code' = 'awaits_signal' AND reason #>> '{detail,event}' = :name
ORDER BY position, item, key LIMIT 1
