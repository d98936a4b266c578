-- Set the caps of a run anew. The caller holds the run alone (lock_run.sql).
-- Parameters: run_id, steps, tokens, usd_nano, active_seconds (null: no cap)
-- Keeps true: a cap is never lowered nor taken away; no row back: it would have been.
UPDATE run_budget
SET steps = :steps, tokens = :tokens, usd_nano = :usd_nano, active_seconds = :active_seconds
WHERE run_id = :run_id
  AND coalesce(CAST(:steps AS bigint) >= steps, steps IS NULL)
  AND coalesce(CAST(:tokens AS bigint) >= tokens, tokens IS NULL)
  AND coalesce(CAST(:usd_nano AS bigint) >= usd_nano, usd_nano IS NULL)
  AND coalesce(CAST(:active_seconds AS double precision) >= active_seconds, active_seconds IS NULL)
RETURNING run_id
