-- Let every other step of a run that is being made as a fork wait for those of its needs that are not there yet.
-- The caller lets go what waits for nothing.
-- Parameters: run_id
-- Keeps true: the counters of needs say what the needs' states say; steps that were taken over all succeeded. A decision
-- counts as skipped and untaken for a step that it does not take.
WITH counted AS (
    SELECT step.id, count(need.id) FILTER (WHERE need.state <> 'succeeded') AS open,
           count(need.id) FILTER (WHERE need.state = 'succeeded' AND NOT chosen.otherwise) AS succeeded,
           count(need.id) FILTER (WHERE need.state = 'succeeded' AND chosen.otherwise) AS untaken
    FROM step
    LEFT JOIN edge ON edge.to_step = step.id
    LEFT JOIN step AS need ON need.id = edge.from_step
    CROSS JOIN LATERAL (
        SELECT need.choice IS NOT NULL AND coalesce(NOT jsonb_exists(edge.labels, need.choice), false) AS otherwise
    ) AS chosen
    WHERE step.run_id = :run_id AND step.state IN ('pending', 'ready')
    GROUP BY step.id
)
UPDATE step SET state = 'pending', needs_open = counted.open, needs_succeeded = counted.succeeded,
    needs_skipped = counted.untaken, needs_untaken = counted.untaken, not_before = NULL
FROM counted
WHERE step.id = counted.id
RETURNING step.id, step.key, step.position, step.state, step.action, step.when_rule, step.is_sink, step.children, step.released,
          step.needs_open, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken
