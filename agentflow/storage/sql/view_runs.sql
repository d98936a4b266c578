-- One run, or a page of runs with the newest first, as surfaces show them without their steps.
-- Parameters: run_id, project, name, states (text[]), is_waiting, is_exhausted, is_paused,
-- is_child, parent_run, before_at, before_id, limit; null means any
-- A running run waits when something of it is held for a person and nothing moves, a held wait included: what
-- domain/state.py says, and tests compare. A child run moves, unless it rests: it was paused or exhausted, or of all that
-- is open below it too, something waits for a person or rests and nothing moves. What has ended and is yet to be told moves.
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
    SELECT bool_or(each.rests) AS has_resting, bool_or(NOT each.rests) AS has_moving
    FROM (
        SELECT child.run_id IS NOT NULL AND (child.rests_since IS NOT NULL OR tree.is_holding AND NOT tree.is_moving) AS rests
        FROM step
        LEFT JOIN run_state AS child
            ON child.run_id = CAST(step.reason -> 'detail' ->> 'run' AS uuid) AND child.state = 'running'
        CROSS JOIN LATERAL (
            SELECT coalesce(bool_or(below.rests_since IS NOT NULL OR EXISTS (
                       SELECT FROM step AS held WHERE held.run_id = below.run_id AND held.state = 'held'
                           AND coalesce(held.reason ->> 'code', '') IN ('awaits_decision', 'awaits_person', 'awaits_signal'))), false) AS is_holding,
                   coalesce(bool_or(below.state <> 'running' OR below.rests_since IS NULL AND EXISTS (
                       SELECT FROM step AS moving
                       LEFT JOIN run_state AS ended ON moving.state = 'held' AND moving.action = 'run'
                           AND ended.run_id = CAST(moving.reason -> 'detail' ->> 'run' AS uuid)
                       WHERE moving.run_id = below.run_id AND (moving.state IN ('ready', 'running', 'retrying')
                           OR moving.state = 'held' AND CASE moving.reason ->> 'code'
                               WHEN 'awaits_run' THEN ended.run_id IS NULL OR ended.state IN ('completed', 'partial', 'failed', 'cancelled')
                               ELSE coalesce(moving.reason ->> 'code', '') NOT IN ('awaits_decision', 'awaits_person', 'awaits_signal') END))), false) AS is_moving
            FROM run_state AS below
            WHERE below.state NOT IN ('completed', 'partial', 'failed', 'cancelled')
              AND (below.run_id = child.run_id OR below.run_id IN (
                  SELECT id FROM run AS descendant
                  WHERE descendant.ancestors IS NOT NULL AND descendant.ancestors ? CAST(child.run_id AS text)))
        ) AS tree
        WHERE step.run_id = run.id AND step.state = 'held' AND step.action = 'run' AND standing.state = 'running'
    ) AS each
) AS children
CROSS JOIN LATERAL (
    SELECT standing.state = 'running' AND EXISTS (
               SELECT FROM step WHERE step.run_id = run.id AND step.state = 'held'
                   AND coalesce(step.reason ->> 'code', '') IN ('awaits_decision', 'awaits_person', 'awaits_signal'))
               OR coalesce(children.has_resting, false) AS is_holding,
           standing.state = 'running' AND EXISTS (
               SELECT FROM step WHERE step.run_id = run.id AND (step.state IN ('ready', 'running', 'retrying')
                   OR step.state = 'held' AND coalesce(step.reason ->> 'code', '') NOT IN ('awaits_decision', 'awaits_person', 'awaits_run', 'awaits_signal')))
               OR coalesce(children.has_moving, false) AS is_moving
) AS rest
WHERE (CAST(:run_id AS uuid) IS NULL OR run.id = CAST(:run_id AS uuid))
  AND (CAST(:project AS text) IS NULL OR run.project = CAST(:project AS text))
  AND (CAST(:name AS text) IS NULL OR plan.name = CAST(:name AS text))
  AND (CAST(:states AS text[]) IS NULL OR standing.state = ANY(CAST(:states AS text[])))
  AND (CAST(:is_exhausted AS boolean) IS NULL OR (standing.exhausted IS NOT NULL) = CAST(:is_exhausted AS boolean))
  AND (CAST(:is_paused AS boolean) IS NULL OR (standing.paused IS NOT NULL) = CAST(:is_paused AS boolean))
  AND (CAST(:is_waiting AS boolean) IS NULL OR (rest.is_holding AND NOT rest.is_moving) = CAST(:is_waiting AS boolean))
  AND (CAST(:is_child AS boolean) IS NULL OR (run.parent_run IS NOT NULL) = CAST(:is_child AS boolean))
  AND (CAST(:parent_run AS uuid) IS NULL OR run.parent_run = CAST(:parent_run AS uuid))
  AND (CAST(:before_at AS timestamptz) IS NULL
       OR (run.created_at, run.id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid)))
ORDER BY run.created_at DESC, run.id DESC
LIMIT :limit
