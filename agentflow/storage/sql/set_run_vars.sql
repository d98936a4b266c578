-- Add the values of a gate's form to the vars of a run. The caller holds the run alone.
-- Parameters: run_id, given (json text)
UPDATE run SET vars = vars || CAST(:given AS jsonb) WHERE id = :run_id
