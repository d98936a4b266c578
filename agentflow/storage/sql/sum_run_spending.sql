-- What a run has used, and what its running attempts have reserved, with all runs below it; one statement, so that both
-- are of one moment.
-- Parameters: run_id
-- Keeps true: no sum is beyond what the ledger can count exactly (2^53 - 1); each attempt counts once, as running or as ended. A step is counted if its reservation was granted and it was not given back.
WITH tree AS MATERIALIZED (
    SELECT CAST(:run_id AS uuid) AS id
    UNION ALL
    SELECT id FROM run WHERE ancestors IS NOT NULL AND ancestors ? CAST(:run_id AS text)
), spent AS (
    SELECT coalesce(sum(CAST(input_tokens AS numeric) + output_tokens), 0) AS tokens, coalesce(sum(usd_nano), 0) AS usd_nano
    FROM llm_call WHERE run_id IN (SELECT id FROM tree)
), tried AS (
    SELECT count(*) FILTER (WHERE state IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'lost') AND reserved ? 'granted') AS steps,
           array_agg(id) FILTER (WHERE state IN ('running') AND reserved IS NOT NULL) AS attempt_ids,
           array_agg(reserved) FILTER (WHERE state IN ('running') AND reserved IS NOT NULL) AS reserved
    FROM attempt WHERE run_id IN (SELECT id FROM tree)
)
SELECT tried.steps, CAST(least(spent.tokens, 9007199254740991) AS bigint) AS tokens, CAST(least(spent.usd_nano, 9007199254740991) AS bigint) AS usd_nano, tried.attempt_ids, tried.reserved
FROM spent, tried
