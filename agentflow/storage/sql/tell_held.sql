-- Say anew why a step is held, and when the dispatcher looks at it. The caller holds its run alone, and the step.
-- Parameters: step_id, reason (json text), due_at (or null)
UPDATE step SET reason = CAST(:reason AS jsonb), not_before = CAST(:due_at AS timestamptz)
WHERE id = :step_id AND state IN ('held') RETURNING id
