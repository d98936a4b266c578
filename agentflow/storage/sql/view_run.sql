-- One run as surfaces show it without its steps. By itself, and not as a page of one: it is planned once a connection.
-- Parameters: run_id
SELECT run.id, run.project, run.actor, run.created_at, run.plan_fingerprint, plan.name AS plan_name,
       standing.state, standing.reason, standing.round, standing.started_at, standing.ended_at, now() AS read_at,
       standing.exhausted, standing.paused
FROM run
JOIN run_state AS standing ON standing.run_id = run.id
JOIN plan ON plan.fingerprint = run.plan_fingerprint
WHERE run.id = :run_id
