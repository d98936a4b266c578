-- What a trace tells of a run: the run whose id the trace has (the outermost above it), and how it stands.
-- Parameters: run_id
SELECT CAST(coalesce(run.ancestors ->> 0, CAST(run.id AS text)) AS uuid) AS outermost, run.parent_run, run.parent_step,
       run.project, plan.name AS plan, run.created_at, run_state.ended_at, run_state.state, run_state.round,
       run_state.reason ->> 'code' AS code
FROM run JOIN run_state ON run_state.run_id = run.id JOIN plan ON plan.fingerprint = run.plan_fingerprint
WHERE run.id = :run_id
