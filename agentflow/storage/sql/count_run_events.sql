-- How many audit events a run has: it grows with everything that is done to it. A plain read.
-- Parameters: run_id
SELECT count(*) FROM audit_event WHERE run_id = :run_id
