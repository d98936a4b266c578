-- What a run used so far: the attempts that it made itself, and its model calls with their tokens and their known price.
-- Parameters: run_id
SELECT (SELECT count(*) FROM attempt
        WHERE attempt.run_id = :run_id AND attempt.reason ->> 'code' IS DISTINCT FROM 'reused') AS attempts,
       count(*) AS calls,
       CAST(least(coalesce(sum(input_tokens + output_tokens), 0), 9007199254740991) AS bigint) AS tokens,
       CAST(least(coalesce(sum(usd_nano), 0), 9007199254740991) AS bigint) AS usd_nano,
       count(*) FILTER (WHERE usd_nano IS NULL) AS unpriced_calls
FROM llm_call WHERE llm_call.run_id = :run_id
