-- Whose turn it is among the suspects (steps that were lost with their workers again and again, in company): one runs at
-- a time, so that the next loss tells who was to blame. A plain read; the dispatcher sends no other suspect.
-- Parameters: suspected_from, patience_seconds
-- None while one runs. A suspect that has been sent keeps those of its own queue waiting until it is answered, however
-- long that takes: where the worker that died comes back only later, they would all be there for it. Those of other queues
-- wait for patience_seconds: nobody may serve the first one's queue.
-- By lot: one that cannot be sent now, since its queue is full or its concurrency key has no place, must not keep the others
-- from their turns.
SELECT step.id FROM step JOIN run_state ON run_state.run_id = step.run_id
WHERE step.joint_losses > 0 AND step.joint_losses >= :suspected_from AND step.state IN ('ready', 'retrying')
  AND step.not_before <= now() AND step.sent_at IS NULL AND run_state.state = 'running' AND run_state.rests_since IS NULL
  AND NOT EXISTS (
      SELECT FROM step AS other WHERE other.joint_losses > 0 AND other.joint_losses >= :suspected_from
      AND (other.state = 'running' OR other.sent_at IS NOT NULL AND (
          other.queue = step.queue OR other.sent_at >= now() - make_interval(secs => :patience_seconds))))
ORDER BY random()
LIMIT 1
