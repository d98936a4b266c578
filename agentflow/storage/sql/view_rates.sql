-- The rate keys in use: those that a step which is ready, retrying or running names, and those asked within the last hour.
-- Where plans differ about a key, the narrowest is shown. The next free moment is that of claim_step.sql's formula.
-- Parameters: project (only keys that a step of it names, or that are its steps' own; null: any)
SELECT coalesce(rate.key, named.key) AS key, named.interval_seconds, named.burst,
       greatest(rate.next_at - (coalesce(named.burst, 1) - 1) * make_interval(secs => coalesce(named.interval_seconds, 0)), now()) AS next_free_at
FROM rate FULL JOIN (
    SELECT rate_key AS key, max(rate_interval_seconds) AS interval_seconds, min(rate_burst) AS burst,
           bool_or(run.project = CAST(:project AS text)) AS is_own
    FROM step JOIN run ON run.id = step.run_id
    WHERE rate_key IS NOT NULL AND state IN ('ready', 'retrying', 'running')
    GROUP BY rate_key
) AS named ON named.key = rate.key
WHERE (named.key IS NOT NULL OR rate.next_at > now() - interval '1 hour')
  AND (CAST(:project AS text) IS NULL OR named.is_own
       OR starts_with(coalesce(rate.key, named.key), CAST(:project AS text) || '/'))
ORDER BY 1
