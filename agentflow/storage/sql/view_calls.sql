-- What the model calls of a run used, by attempt.
-- Parameters: run_id
SELECT step.key, attempt.number, llm_call.provider, llm_call.model, llm_call.input_tokens, llm_call.output_tokens,
       llm_call.cached_tokens, llm_call.reasoning_tokens, llm_call.usd_nano, llm_call.is_estimated, llm_call.finish_reason,
       llm_call.problem, llm_call.duration_seconds
FROM llm_call
JOIN attempt ON attempt.id = llm_call.attempt_id
JOIN step ON step.id = llm_call.step_id
WHERE llm_call.run_id = :run_id
