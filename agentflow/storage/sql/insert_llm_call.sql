-- Record what an attempt's call used, in the transaction that ends the attempt.
-- Parameters: attempt_id, run_id, step_id, project, directive, provider, model, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
--             usd_nano, is_estimated, finish_reason, problem, started_at, duration_seconds, request_sha256, answer_sha256
-- Keeps true: one row an attempt, whoever ends it.
INSERT INTO llm_call (attempt_id, run_id, step_id, project, directive, provider, model, input_tokens, output_tokens, cached_tokens,
                      reasoning_tokens, usd_nano, is_estimated, finish_reason, problem, started_at, duration_seconds, request_sha256, answer_sha256)
VALUES (:attempt_id, :run_id, :step_id, :project, :directive, :provider, :model, :input_tokens, :output_tokens, :cached_tokens,
        :reasoning_tokens, :usd_nano, :is_estimated, :finish_reason, :problem, :started_at, :duration_seconds, :request_sha256, :answer_sha256)
