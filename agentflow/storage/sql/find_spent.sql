-- Which of some attempts do not run any more, and what they used; a row that is gone used nothing that counts.
-- Parameters: attempt_ids
SELECT asked.id,
       CASE WHEN attempt.state IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'lost') AND attempt.reserved ? 'granted' THEN 1 ELSE 0 END AS steps,
       CAST(least(coalesce(CAST(llm_call.input_tokens AS numeric) + llm_call.output_tokens, 0), 9007199254740991) AS bigint) AS tokens,
       CAST(least(coalesce(llm_call.usd_nano, 0), 9007199254740991) AS bigint) AS usd_nano,
       attempt.reserved ->> 'granted' AS grant_name, extract(epoch FROM now() - attempt.ended_at) AS ended_seconds
FROM unnest(CAST(:attempt_ids AS uuid[])) AS asked (id)
LEFT JOIN attempt ON attempt.id = asked.id
LEFT JOIN llm_call ON llm_call.attempt_id = asked.id
WHERE attempt.state IS DISTINCT FROM 'running'
