-- A page of runs, the newest first, as surfaces show them without their steps; view_standings tells more of running ones.
-- Parameters: project, fingerprints (text[]: of plans), states (text[]), is_exhausted, is_paused,
-- is_child, parent_run, before_at, before_id, limit; null means any
SELECT run.id, run.project, run.actor, run.created_at, run.plan_fingerprint, plan.name AS plan_name,
       standing.state, standing.reason, standing.round, standing.started_at, standing.ended_at, now() AS read_at,
       standing.exhausted, standing.paused
FROM run
JOIN run_state AS standing ON standing.run_id = run.id
JOIN plan ON plan.fingerprint = run.plan_fingerprint
WHERE (CAST(:project AS text) IS NULL OR run.project = CAST(:project AS text))
  AND (CAST(:fingerprints AS text[]) IS NULL OR run.plan_fingerprint = ANY(CAST(:fingerprints AS text[])))
  AND (CAST(:states AS text[]) IS NULL OR standing.state = ANY(CAST(:states AS text[])))
  AND (CAST(:is_exhausted AS boolean) IS NULL OR (standing.exhausted IS NOT NULL) = CAST(:is_exhausted AS boolean))
  AND (CAST(:is_paused AS boolean) IS NULL OR (standing.paused IS NOT NULL) = CAST(:is_paused AS boolean))
  AND (CAST(:is_child AS boolean) IS NULL OR (run.parent_run IS NOT NULL) = CAST(:is_child AS boolean))
  AND (CAST(:parent_run AS uuid) IS NULL OR run.parent_run = CAST(:parent_run AS uuid))
  AND (CAST(:before_at AS timestamptz) IS NULL
       OR (run.created_at, run.id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid)))
ORDER BY run.created_at DESC, run.id DESC
LIMIT :limit
