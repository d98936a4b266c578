-- The run that was submitted last.
-- Parameters: project (null: any)
SELECT id FROM run WHERE CAST(:project AS text) IS NULL OR project = CAST(:project AS text)
ORDER BY created_at DESC, id DESC LIMIT 1
