-- A step that waits for a child run, with what the child is made from and how the child stands. A plain read; whoever acts
-- on it looks again under the locks.
-- Parameters: step_id
SELECT step.run_id, step.key, step.reason, run.project, run.directive, run.actor, run.vars, run.plan_fingerprint,
       run.ancestors, run.child_plans, child.state AS child_state, child.round AS child_round
FROM step JOIN run ON run.id = step.run_id
LEFT JOIN run_state AS child ON child.run_id = CAST(step.reason -> 'detail' ->> 'run' AS uuid)
WHERE step.id = :step_id AND step.state = 'held' AND step.action = 'run'
