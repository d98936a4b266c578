-- Count the needs of steps anew that still wait, because some of these were taken up again. The caller holds the run alone.
-- Parameters: step_ids, untaken_codes (text[]: why steps are skipped whose way was not taken)
-- Keeps true: the counters of needs say what the needs' states say, as reopen_steps.sql has it for those taken up.
WITH counted AS (
    SELECT waits.id,
           count(need.id) FILTER (WHERE need.state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')) AS open,
           count(need.id) FILTER (WHERE need.state = 'succeeded' AND NOT need.is_untaken) AS succeeded,
           count(need.id) FILTER (WHERE need.state = 'failed') AS failed,
           count(need.id) FILTER (WHERE need.state = 'skipped' OR need.is_untaken) AS skipped,
           count(need.id) FILTER (WHERE need.state = 'cancelled') AS cancelled,
           count(need.id) FILTER (WHERE need.is_untaken) AS untaken
    FROM step AS waits
    JOIN edge ON edge.to_step = waits.id
    JOIN LATERAL (
        SELECT step.id, step.state,
               coalesce(step.reason ->> 'code' = ANY(CAST(:untaken_codes AS text[])) AND step.state = 'skipped'
                   OR step.choice IS NOT NULL AND NOT jsonb_exists(edge.labels, step.choice), false) AS is_untaken
        FROM step WHERE step.id = edge.from_step
    ) AS need ON true
    WHERE waits.id = ANY(CAST(:step_ids AS uuid[])) AND waits.state = 'pending' AND waits.children IS NULL
    GROUP BY waits.id
)
UPDATE step
SET needs_open = counted.open, needs_succeeded = counted.succeeded, needs_failed = counted.failed,
    needs_skipped = counted.skipped, needs_cancelled = counted.cancelled, needs_untaken = counted.untaken
FROM counted WHERE step.id = counted.id AND step.state IN ('pending')
