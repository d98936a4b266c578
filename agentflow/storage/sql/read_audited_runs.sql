-- Every run that has rows or events.
SELECT id FROM run UNION SELECT run_id FROM audit_event
