-- Which plan a run executes.
-- Parameters: run_id
SELECT plan_fingerprint FROM run WHERE id = :run_id
