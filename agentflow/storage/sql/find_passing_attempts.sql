-- The attempts of some steps that have no row for a file of this name: if the content store holds one of them, it is
-- there only until its run ends. A plain read; the caller holds the run, whose steps are all final.
-- Parameters: run_id, keys, name, has_inner (whether foreachs made some of them: then all model calls of foreachs are read)
SELECT step.key, attempt.number
FROM step JOIN attempt ON attempt.step_id = step.id
WHERE step.run_id = :run_id AND (step.key = ANY(CAST(:keys AS text[])) OR :has_inner AND step.parent IS NOT NULL AND step.action = 'llm')
  AND NOT EXISTS (SELECT 1 FROM artifact WHERE artifact.attempt_id = attempt.id AND artifact.name = :name)
