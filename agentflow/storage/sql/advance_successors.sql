-- Tell the successors of steps that reached a final state; a counter per step does what a chord would.
-- Parameters: step_ids (all with the same final state), failed, skipped, cancelled (1 or 0 each)
-- Keeps true: each need is counted once (a step is settled once a round); rows are locked in id order; exactly one of
-- many racing predecessors sees needs_open reach zero. Only pending steps count: one that ended, or that succeeded in
-- an earlier round, waits for nothing any more, and reopen_steps.sql counts anew.
WITH told AS (
    SELECT step.id, count(*) AS needs FROM edge JOIN step ON step.id = edge.to_step
    WHERE edge.from_step = ANY(CAST(:step_ids AS uuid[]))
    GROUP BY step.id
), held AS (
    SELECT step.id, told.needs FROM step JOIN told ON told.id = step.id
    WHERE step.state = 'pending'
    ORDER BY step.id FOR NO KEY UPDATE OF step
)
UPDATE step
SET needs_open = step.needs_open - held.needs,
    needs_failed = step.needs_failed + :failed * held.needs,
    needs_skipped = step.needs_skipped + :skipped * held.needs,
    needs_cancelled = step.needs_cancelled + :cancelled * held.needs
FROM held
WHERE step.id = held.id
RETURNING step.id, step.key, step.position, step.state, step.when_rule, step.is_sink,
          step.needs_open, step.needs_failed, step.needs_skipped, step.needs_cancelled
