-- Steps that are held until a time that has come, but for those that wait for a child run (find_due_children.sql).
-- A plain read; the verb looks again under the lock.
-- Parameters: limit
-- By lot: steps that cannot be looked at now must not keep the others out of sight.
SELECT step.id, step.action FROM step JOIN run_state ON run_state.run_id = step.run_id
WHERE step.state = 'held' AND step.action <> 'run' AND step.not_before <= now() AND run_state.state = 'running'
ORDER BY random()
LIMIT :limit
