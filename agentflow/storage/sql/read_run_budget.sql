-- The caps of a run as they stand; no row: it has none.
-- Parameters: run_id
SELECT steps, tokens, usd_nano, active_seconds FROM run_budget WHERE run_id = :run_id
