-- The concurrency keys with their number of places: the largest limit that a step asks for which is ready, retrying or
-- running, or, while there is none, that was ever asked for.
-- Parameters: project (only keys that a step of it names which is ready, retrying or running; null: any)
SELECT slot.key, coalesce(max(named.places), count(*)) AS places
FROM slot LEFT JOIN (
    SELECT slot_key AS key, max(slot_limit) AS places, bool_or(run.project = CAST(:project AS text)) AS is_own
    FROM step JOIN run ON run.id = step.run_id
    WHERE slot_key IS NOT NULL AND state IN ('ready', 'retrying', 'running')
    GROUP BY slot_key
) AS named ON named.key = slot.key
WHERE CAST(:project AS text) IS NULL OR named.is_own
GROUP BY slot.key
ORDER BY slot.key
