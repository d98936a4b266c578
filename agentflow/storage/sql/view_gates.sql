-- Gates as surfaces show them: of one run all that it opened, else those of any run that wait for a decision.
-- Parameters: run_id, project, is_open (only those that wait), is_tree (of the runs below it too), limit; null means any
-- An open gate whose step is not held any more, or whose run has ended, waits for nobody.
SELECT gate.id, gate.run_id, gate.step_id, step.key, gate.kind, gate.state, gate.round, gate.terms, gate.facts,
       gate.plan_fingerprint, gate.opened_at, gate.expires_at, gate.is_escalated, gate.decided_at,
       run.project, run.actor AS submitted_by, plan.name AS plan_name, now() AS read_at
FROM gate
JOIN step ON step.id = gate.step_id
JOIN run ON run.id = gate.run_id
JOIN run_state AS standing ON standing.run_id = gate.run_id
JOIN plan ON plan.fingerprint = run.plan_fingerprint
WHERE (CAST(:run_id AS uuid) IS NULL OR gate.run_id = ANY(ARRAY(
           SELECT CAST(:run_id AS uuid)
           UNION ALL
           SELECT below.id FROM run AS below
           WHERE CAST(:is_tree AS boolean) AND below.ancestors IS NOT NULL
               AND below.ancestors ? CAST(CAST(:run_id AS uuid) AS text))))
  AND (CAST(:project AS text) IS NULL OR run.project = CAST(:project AS text))
  AND (NOT CAST(:is_open AS boolean)
       OR (gate.state = 'open' AND step.state = 'held' AND standing.state = 'running'))
ORDER BY gate.opened_at, step.position, gate.round
LIMIT :limit
