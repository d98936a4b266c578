-- One run, or a page of runs with the newest first, as surfaces show them without their steps.
-- Parameters: run_id, project, name, states (text[]), is_waiting, is_exhausted, is_paused, before_at, before_id, limit; null means any
-- A running run waits when something of it is held for a person and nothing moves, a held wait or child run included:
-- what domain/state.py says, and tests compare.
SELECT run.id, run.project, run.actor, run.created_at, run.plan_fingerprint, plan.name AS plan_name,
       standing.state, standing.reason, standing.round, standing.started_at, standing.ended_at, now() AS read_at,
       rest.is_holding, rest.is_moving, standing.exhausted, standing.paused,
       CASE WHEN rest.is_holding AND NOT rest.is_moving THEN (
           SELECT jsonb_set(step.reason, '{detail,step}', to_jsonb(step.key)) FROM step
           WHERE step.run_id = run.id AND step.state = 'held' ORDER BY step.position LIMIT 1) END AS held_reason
FROM run
JOIN run_state AS standing ON standing.run_id = run.id
JOIN plan ON plan.fingerprint = run.plan_fingerprint
CROSS JOIN LATERAL (
    SELECT standing.state = 'running' AND EXISTS (
               SELECT FROM step WHERE step.run_id = run.id AND step.state = 'held'
                   AND coalesce(step.reason ->> 'code', '') IN ('awaits_decision', 'awaits_person', 'awaits_signal')) AS is_holding,
           standing.state = 'running' AND EXISTS (
               SELECT FROM step WHERE step.run_id = run.id AND (step.state IN ('ready', 'running', 'retrying')
                   OR step.state = 'held' AND coalesce(step.reason ->> 'code', '') NOT IN ('awaits_decision', 'awaits_person', 'awaits_signal'))) AS is_moving
) AS rest
WHERE (CAST(:run_id AS uuid) IS NULL OR run.id = CAST(:run_id AS uuid))
  AND (CAST(:project AS text) IS NULL OR run.project = CAST(:project AS text))
  AND (CAST(:name AS text) IS NULL OR plan.name = CAST(:name AS text))
  AND (CAST(:states AS text[]) IS NULL OR standing.state = ANY(CAST(:states AS text[])))
  AND (CAST(:is_exhausted AS boolean) IS NULL OR (standing.exhausted IS NOT NULL) = CAST(:is_exhausted AS boolean))
  AND (CAST(:is_paused AS boolean) IS NULL OR (standing.paused IS NOT NULL) = CAST(:is_paused AS boolean))
  AND (CAST(:is_waiting AS boolean) IS NULL OR (rest.is_holding AND NOT rest.is_moving) = CAST(:is_waiting AS boolean))
  AND (CAST(:before_at AS timestamptz) IS NULL
       OR (run.created_at, run.id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid)))
ORDER BY run.created_at DESC, run.id DESC
LIMIT :limit
