-- How many audit events of each action a run has.
-- Parameters: run_id
SELECT action, count(*) AS events FROM audit_event WHERE run_id = :run_id GROUP BY action ORDER BY action
