-- The concurrency keys with their number of places: the largest limit that a step asks for which is ready, retrying or
-- running, or, while there is none, that was ever asked for.
SELECT slot.key, coalesce(max(named.places), count(*)) AS places
FROM slot LEFT JOIN (
    SELECT slot_key AS key, max(slot_limit) AS places FROM step
    WHERE slot_key IS NOT NULL AND state IN ('ready', 'retrying', 'running')
    GROUP BY slot_key
) AS named ON named.key = slot.key
GROUP BY slot.key
ORDER BY slot.key
