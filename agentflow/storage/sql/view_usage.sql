-- What a run's calls used, by model.
-- Parameters: run_id
SELECT provider, model, count(*) AS calls, count(*) FILTER (WHERE is_estimated) AS estimated_calls,
       CAST(least(sum(input_tokens), 9007199254740991) AS bigint) AS input_tokens, CAST(least(sum(output_tokens), 9007199254740991) AS bigint) AS output_tokens,
       CAST(least(sum(cached_tokens), 9007199254740991) AS bigint) AS cached_tokens, CAST(least(sum(reasoning_tokens), 9007199254740991) AS bigint) AS reasoning_tokens,
       CAST(least(coalesce(sum(usd_nano), 0), 9007199254740991) AS bigint) AS usd_nano, count(*) FILTER (WHERE usd_nano IS NULL) AS unpriced_calls
FROM llm_call WHERE run_id = :run_id
GROUP BY provider, model ORDER BY provider, model
