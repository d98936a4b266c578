-- Change what a person may change of a step that has not run: how long its attempts may take, and its priority.
-- Parameters: step_id, timeout_seconds, priority (null leaves one as it is)
-- Keeps true: an attempt that runs keeps the time that it was given. The caller holds the run alone, and the step.
WITH old AS (
    SELECT id, timeout_seconds, priority FROM step WHERE id = :step_id
)
UPDATE step
SET timeout_seconds = coalesce(CAST(:timeout_seconds AS double precision), step.timeout_seconds),
    priority = coalesce(CAST(:priority AS integer), step.priority)
FROM old
WHERE step.id = old.id AND step.state IN ('pending', 'ready', 'retrying', 'held')
RETURNING old.timeout_seconds, old.priority
