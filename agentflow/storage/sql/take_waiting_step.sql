-- Note that the child run is there that a held step waits for. The caller holds the step's run, shared at least.
-- Parameters: step_id, child_id
-- Keeps true: no child run is made for a step that does not wait for it.
UPDATE step SET not_before = NULL
WHERE id = :step_id AND state IN ('held') AND reason ->> 'code' = 'awaits_run' AND reason -> 'detail' ->> 'run' = CAST(:child_id AS text)
RETURNING id
