-- The signals of a run that no step has taken yet, in the order in which they came; without their data.
-- Parameters: run_id, limit
SELECT id, name, actor, at, data IS NOT NULL AS has_data FROM signal
WHERE run_id = :run_id AND taken_by IS NULL
ORDER BY id LIMIT :limit
