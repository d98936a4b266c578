-- Every event of a run: its own chain first, then step by step.
-- Parameters: run_id
SELECT run_id, step_id, sequence, at, actor, action, subject, moved, reason, verdict, facts, mac
FROM audit_event WHERE run_id = :run_id ORDER BY step_id NULLS FIRST, sequence
