-- Take the first signal of a name that waits in a run. The caller holds the run alone.
-- Parameters: run_id, name, step_id (the step whose wait it ends)
-- Keeps true: a signal ends one wait, and of those of one name the one that came first is taken first.
UPDATE signal SET taken_by = :step_id
WHERE id = (SELECT id FROM signal WHERE run_id = :run_id AND name = :name AND taken_by IS NULL ORDER BY id LIMIT 1)
RETURNING id, data, actor
