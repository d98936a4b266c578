-- What a fork starts from: whose the run is, its plan, vars and mode, the plans of its child runs and its caps as they stand.
-- Parameters: run_id
SELECT run.project, run.directive, run.plan_fingerprint, run.vars, run.mode, run.child_plans,
       run_budget.steps, run_budget.tokens, run_budget.usd_nano, run_budget.active_seconds
FROM run LEFT JOIN run_budget ON run_budget.run_id = run.id
WHERE run.id = :run_id
