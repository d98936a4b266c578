-- What a run and all runs below it used so far: the attempts that they made themselves, and their model calls with tokens and known price.
-- Parameters: run_id
WITH tree AS MATERIALIZED (
    SELECT CAST(:run_id AS uuid) AS id
    UNION ALL
    SELECT id FROM run WHERE ancestors IS NOT NULL AND ancestors ? CAST(:run_id AS text)
)
SELECT (SELECT count(*) FROM tree) - 1 AS child_runs,
       (SELECT count(*) FROM attempt
        WHERE run_id IN (SELECT id FROM tree) AND attempt.reason ->> 'code' IS DISTINCT FROM 'reused') AS attempts,
       count(*) AS calls,
       CAST(least(coalesce(sum(CAST(input_tokens AS numeric) + output_tokens), 0), 9007199254740991) AS bigint) AS tokens,
       CAST(least(coalesce(sum(usd_nano), 0), 9007199254740991) AS bigint) AS usd_nano,
       count(*) FILTER (WHERE usd_nano IS NULL) AS unpriced_calls
FROM llm_call WHERE run_id IN (SELECT id FROM tree)
