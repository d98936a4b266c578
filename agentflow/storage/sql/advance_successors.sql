-- Tell the successors of steps that reached a final state; a counter per step does what a chord would.
-- Parameters: step_ids (all with the same final state), succeeded, failed, skipped, cancelled, untaken (1 or 0 each)
-- Keeps true: each need is counted once (a step is settled once a round); rows are locked in id order; exactly one of
-- many racing predecessors sees needs_open reach zero. Only pending steps count: one that ended, or that succeeded in
-- an earlier round, waits for nothing any more, and reopen_steps.sql counts anew. A decision's choice was written before,
-- in the same transaction: for a step that it does not take, it counts as skipped and untaken. An item that ends before its
-- turn waits for it no more (released).
WITH told AS (
    SELECT edge.to_step AS id, count(*) AS needs,
           count(*) FILTER (WHERE need.choice IS NOT NULL AND NOT jsonb_exists(edge.labels, need.choice)) AS unchosen,
           count(*) FILTER (WHERE need.awaits_turn) AS unturned
    FROM edge JOIN step AS need ON need.id = edge.from_step
    WHERE edge.from_step = ANY(CAST(:step_ids AS uuid[]))
    GROUP BY edge.to_step
), held AS (
    SELECT step.id, told.needs - told.unchosen AS needs, told.unchosen, told.unturned FROM step JOIN told ON told.id = step.id
    WHERE step.state = 'pending'
    ORDER BY step.id FOR NO KEY UPDATE OF step
)
UPDATE step
SET needs_open = step.needs_open - held.needs - held.unchosen,
    needs_succeeded = step.needs_succeeded + :succeeded * held.needs,
    needs_failed = step.needs_failed + :failed * held.needs,
    needs_skipped = step.needs_skipped + :skipped * held.needs + held.unchosen,
    needs_cancelled = step.needs_cancelled + :cancelled * held.needs,
    needs_untaken = step.needs_untaken + :untaken * held.needs + held.unchosen,
    released = step.released + held.unturned
FROM held
WHERE step.id = held.id
RETURNING step.id, step.key, step.position, step.state, step.action, step.when_rule, step.is_sink, step.children, step.released,
          step.needs_open, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken
