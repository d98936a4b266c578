-- The steps of a run that are not final, and the one that is asked for, each with its running attempt; of that one
-- whether an attempt of it wrote something.
-- Parameters: run_id, step (its key, or null), suspected_from
SELECT step.id, step.key, step.position, step.state, step.queue, step.reason, step.choice, step.attempts, step.not_before, step.sent_at,
       step.slot_key, step.slot_limit, step.rate_key, step.ticket_at IS NOT NULL AS has_ticket,
       step.joint_losses >= :suspected_from AS is_suspect,
       step.parent, step.item, step.awaits_turn, step.children, step.released, step.needs_open,
       attempt.number, attempt.worker, attempt.started_at, attempt.lease_until, attempt.is_stop_requested,
       attempt.is_yield_requested,
       step.key = CAST(:step AS text) AND EXISTS (
           SELECT FROM artifact
           WHERE artifact.step_id = step.id AND artifact.kind IN ('stdout', 'stderr') AND artifact.bytes > 0) AS has_logs
FROM step LEFT JOIN attempt ON attempt.step_id = step.id AND attempt.state = 'running'
WHERE step.run_id = :run_id
  AND (step.state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled') OR step.key = CAST(:step AS text))
ORDER BY step.position
