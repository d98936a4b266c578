-- Runs that ended and stand in no signed checkpoint yet, in the order of their ends.
-- Parameters: limit
SELECT run_state.run_id, run_state.round, run_state.event_sequence AS sequence, run_state.event_head AS head,
       coalesce((SELECT facts ->> 'seal' FROM audit_event
                 WHERE audit_event.run_id = run_state.run_id AND step_id IS NULL AND action = 'finalize'
                 ORDER BY audit_event.sequence DESC LIMIT 1), '') AS seal
FROM run_state
WHERE ended_at IS NOT NULL AND checkpoint IS NULL
ORDER BY ended_at
LIMIT :limit
