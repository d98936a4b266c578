-- What a run's calls used, by model.
-- Parameters: run_id
SELECT provider, model, count(*) AS calls, count(*) FILTER (WHERE is_estimated) AS estimated_calls,
       CAST(sum(input_tokens) AS bigint) AS input_tokens, CAST(sum(output_tokens) AS bigint) AS output_tokens,
       CAST(sum(cached_tokens) AS bigint) AS cached_tokens, CAST(sum(reasoning_tokens) AS bigint) AS reasoning_tokens,
       CAST(coalesce(sum(usd_nano), 0) AS bigint) AS usd_nano, count(*) FILTER (WHERE usd_nano IS NULL) AS unpriced_calls
FROM llm_call WHERE run_id = :run_id
GROUP BY provider, model ORDER BY provider, model
