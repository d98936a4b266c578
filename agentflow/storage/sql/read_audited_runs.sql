-- Every run that has rows or events; the installation's own chain (the nil id) is no run's.
SELECT id FROM run UNION SELECT run_id FROM audit_event WHERE run_id <> '00000000-0000-0000-0000-000000000000'
