-- Stored plans with their versions, by name and the newest first; a plain read.
-- Parameters: project, name (null: any)
SELECT project, name, version, fingerprint, pushed_by, pushed_at FROM stored_plan
WHERE (CAST(:project AS text) IS NULL OR project = CAST(:project AS text))
  AND (CAST(:name AS text) IS NULL OR name = CAST(:name AS text))
ORDER BY project, name, version DESC
