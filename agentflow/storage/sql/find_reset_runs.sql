-- Runs of which every exhausted budget has been renewed since: a new day began for each of them. They may be paused too.
-- Parameters: limit
-- By lot: runs that cannot go on now must not keep the others out of sight.
SELECT run_id FROM run_state
WHERE state = 'running' AND exhausted IS NOT NULL
  AND NOT EXISTS (
      SELECT 1 FROM jsonb_array_elements(exhausted) AS of_budget
      WHERE coalesce(CAST(of_budget ->> 'resets_at' AS timestamptz) > now(), true))
ORDER BY random()
LIMIT :limit
