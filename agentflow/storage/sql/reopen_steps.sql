-- Take steps up again in a new round, all as pending; the caller holds the run alone and lets go what waits for nothing.
-- Parameters: step_ids, untaken_codes (text[]: why steps are skipped whose way was not taken), anew_ids (of them the foreachs
-- that begin anew), awaiting_ids (of them what awaits the turn of its item)
-- Keeps true: the counters of needs say what the needs' states say; those of a foreach that has items speak of these, and of
-- one that begins anew of what it waits for before; a step that starts over has spent no retry.
WITH counted AS (
    SELECT again.id,
           count(need.id) FILTER (WHERE need.id = ANY(CAST(:step_ids AS uuid[]))
                                     OR need.state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')) AS open,
           count(need.id) FILTER (WHERE need.stays AND need.state = 'succeeded' AND NOT need.is_untaken) AS succeeded,
           count(need.id) FILTER (WHERE need.stays AND need.state = 'failed') AS failed,
           count(need.id) FILTER (WHERE need.stays AND (need.state = 'skipped' OR need.is_untaken)) AS skipped,
           count(need.id) FILTER (WHERE need.stays AND need.state = 'cancelled') AS cancelled,
           count(need.id) FILTER (WHERE need.stays AND need.is_untaken) AS untaken
    FROM step AS again
    LEFT JOIN edge ON edge.to_step = again.id
    LEFT JOIN LATERAL (
        SELECT step.id, step.state, step.id <> ALL(CAST(:step_ids AS uuid[])) AS stays,
               coalesce(step.reason ->> 'code' = ANY(CAST(:untaken_codes AS text[])) AND step.state = 'skipped'
                   OR step.choice IS NOT NULL AND NOT jsonb_exists(edge.labels, step.choice), false) AS is_untaken
        FROM step
        WHERE step.id = edge.from_step
          AND (again.children IS NOT NULL AND again.id <> ALL(CAST(:anew_ids AS uuid[])))
              = (step.parent IS NOT DISTINCT FROM again.key)
    ) AS need ON true
    WHERE again.id = ANY(CAST(:step_ids AS uuid[]))
    GROUP BY again.id
)
UPDATE step
SET state = 'pending', reason = NULL, exit_code = NULL, result = NULL, failures = 0, losses = 0, joint_losses = 0, postponed = 0, sent_at = NULL,
    not_before = NULL, choice = NULL, needs_succeeded = counted.succeeded,
    needs_failed = counted.failed, needs_skipped = counted.skipped, needs_cancelled = counted.cancelled,
    needs_untaken = counted.untaken,
    needs_open = counted.open + CASE WHEN step.id = ANY(CAST(:awaiting_ids AS uuid[])) AND step.action <> 'group' THEN 1 ELSE 0 END,
    awaits_turn = step.id = ANY(CAST(:awaiting_ids AS uuid[])),
    children = CASE WHEN step.id <> ALL(CAST(:anew_ids AS uuid[])) THEN step.children END,
    released = CASE WHEN step.id <> ALL(CAST(:anew_ids AS uuid[])) THEN step.released END
FROM counted
WHERE step.id = counted.id AND step.state IN ('failed', 'skipped', 'cancelled', 'held', 'succeeded')
RETURNING step.id, step.key, step.position, step.state, step.action, step.when_rule, step.is_sink, step.children, step.released,
          step.needs_open, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken
