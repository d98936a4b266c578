-- How long a run was going, over all its rounds: from each start to the end that followed it, or to now.
-- Parameters: run_id
WITH turns AS (
    SELECT at, moved -> 'run' ->> 1 AS state, lead(at) OVER (ORDER BY sequence) AS next_at
    FROM audit_event
    WHERE run_id = :run_id AND step_id IS NULL AND moved -> 'run' IS NOT NULL
)
SELECT coalesce(sum(extract(epoch FROM coalesce(next_at, now()) - at)), 0) AS active_seconds
FROM turns WHERE state NOT IN ('cancelled', 'completed', 'failed', 'partial')
