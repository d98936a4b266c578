-- Give a run that was just accepted its caps.
-- Parameters: run_id, steps, tokens, usd_nano, active_seconds (null: no cap)
INSERT INTO run_budget (run_id, steps, tokens, usd_nano, active_seconds)
VALUES (:run_id, :steps, :tokens, :usd_nano, :active_seconds)
