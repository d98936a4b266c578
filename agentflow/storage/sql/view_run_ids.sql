-- The runs whose id lies in a range: those that begin with a prefix.
-- Parameters: low, high, project (null: any), limit
SELECT id FROM run
WHERE id BETWEEN :low AND :high AND (CAST(:project AS text) IS NULL OR project = CAST(:project AS text))
ORDER BY id LIMIT :limit
