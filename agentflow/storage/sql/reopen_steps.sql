-- Take steps up again in a new round, all as pending; the caller holds the run alone and lets go what waits for nothing.
-- Parameters: step_ids
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
SET state = 'pending', reason = NULL, exit_code = NULL, result = NULL, failures = 0, losses = 0, joint_losses = 0, postponed = 0, sent_at = NULL,
    not_before = NULL, needs_open = counted.open, needs_failed = counted.failed, needs_skipped = counted.skipped,
    needs_cancelled = counted.cancelled
FROM counted
WHERE step.id = counted.id AND step.state IN ('failed', 'skipped', 'cancelled', 'held', 'succeeded')
RETURNING step.id, step.key, step.position, step.state, step.when_rule, step.is_sink,
          step.needs_open, step.needs_failed, step.needs_skipped, step.needs_cancelled
