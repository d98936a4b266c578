-- Whether something of a running run is held for a person, whether something of it moves, and of what waits the first.
-- Parameters: run_ids (uuid[]); those that do not run are left out
-- A running run waits when something of it is held for a person and nothing moves, a held wait included: what
-- domain/state.py says, and tests compare. A child run moves, unless it rests: it was paused or exhausted, or of all that
-- is open below it too, something waits for a person or rests and nothing moves. What has ended and is yet to be told moves.
SELECT run.id, rest.is_holding, rest.is_moving,
       CASE WHEN rest.is_holding AND NOT rest.is_moving THEN (
           SELECT jsonb_set(step.reason, '{detail,step}', to_jsonb(step.key)) FROM step
           WHERE step.run_id = run.id AND step.state = 'held' ORDER BY step.position LIMIT 1) END AS held_reason
FROM run
JOIN run_state AS standing ON standing.run_id = run.id
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
WHERE run.id = ANY(CAST(:run_ids AS uuid[])) AND standing.state = 'running'
