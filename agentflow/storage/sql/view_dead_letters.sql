-- The dead letters: steps that were failed as poisoned, with what is known of their losses, the newest first. A plain read.
-- Parameters: run_id, project, name (each null for all), most, workers (the last of each step)
SELECT step.run_id, run.project, plan.name, run_state.state AS run_state, step.key AS step, step.action, step.losses,
       last.since, last.workers, count(*) OVER () AS total
FROM step JOIN run ON run.id = step.run_id JOIN run_state ON run_state.run_id = step.run_id
JOIN plan ON plan.fingerprint = run.plan_fingerprint
CROSS JOIN LATERAL (
    SELECT max(each.ended_at) AS since, array_agg(each.worker ORDER BY each.number DESC) AS workers
    FROM (SELECT attempt.ended_at, attempt.worker, attempt.number FROM attempt
          WHERE attempt.step_id = step.id AND attempt.state = 'lost' ORDER BY attempt.number DESC LIMIT :workers) AS each
) AS last
WHERE step.state = 'failed' AND (step.reason ->> 'code') = 'poisoned'
  AND (CAST(:run_id AS uuid) IS NULL OR step.run_id = CAST(:run_id AS uuid))
  AND (CAST(:project AS text) IS NULL OR run.project = CAST(:project AS text))
  AND (CAST(:name AS text) IS NULL OR plan.name = CAST(:name AS text))
ORDER BY last.since DESC, step.run_id, step.position
LIMIT :most
