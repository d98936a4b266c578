-- The run that was submitted last; one that another run started does not count.
-- Parameters: project (null: any), left_out (a project, whose runs count only where it is asked for)
SELECT id FROM run
WHERE parent_run IS NULL
    AND (CAST(:project AS text) IS NULL AND project <> :left_out OR project = CAST(:project AS text))
ORDER BY created_at DESC, id DESC LIMIT 1
