-- The run that was submitted last; one that another run started does not count.
-- Parameters: project (null: any)
SELECT id FROM run WHERE parent_run IS NULL AND (CAST(:project AS text) IS NULL OR project = CAST(:project AS text))
ORDER BY created_at DESC, id DESC LIMIT 1
