-- Take steps up again in a new round. The caller holds the run alone, and reopens pending steps before ready ones.
-- Parameters: step_ids, new_state (pending or ready)
-- Keeps true: the counters of needs say what the needs' states say; a step that starts over has spent no retry.
WITH counted AS (
    SELECT again.id,
           count(need.id) FILTER (WHERE need.id = ANY(CAST(:step_ids AS uuid[]))
                                     OR need.state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')) AS open,
           count(need.id) FILTER (WHERE need.state = 'failed' AND need.id <> ALL(CAST(:step_ids AS uuid[]))) AS failed,
           count(need.id) FILTER (WHERE need.state = 'skipped' AND need.id <> ALL(CAST(:step_ids AS uuid[]))) AS skipped,
           count(need.id) FILTER (WHERE need.state = 'cancelled' AND need.id <> ALL(CAST(:step_ids AS uuid[]))) AS cancelled
    FROM step AS again
    LEFT JOIN edge ON edge.to_step = again.id
    LEFT JOIN step AS need ON need.id = edge.from_step
    WHERE again.id = ANY(CAST(:step_ids AS uuid[]))
    GROUP BY again.id
)
UPDATE step
SET state = :new_state, reason = NULL, exit_code = NULL, result = NULL, failures = 0, losses = 0, sent_at = NULL,
    not_before = CASE WHEN :new_state = 'ready' THEN now() END,
    needs_open = counted.open, needs_failed = counted.failed, needs_skipped = counted.skipped,
    needs_cancelled = counted.cancelled
FROM counted
WHERE step.id = counted.id AND step.state IN ('failed', 'skipped', 'cancelled', 'held')
