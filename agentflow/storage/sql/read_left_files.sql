-- The files that the last attempts of some steps of a run left.
-- Parameters: run_id, keys
SELECT step.key, artifact.name, artifact.bytes, artifact.sha256
FROM step
JOIN attempt ON attempt.step_id = step.id AND attempt.number = step.attempts
JOIN artifact ON artifact.attempt_id = attempt.id AND artifact.kind = 'file'
WHERE step.run_id = :run_id AND step.key = ANY(CAST(:keys AS text[]))
ORDER BY step.position, artifact.name
