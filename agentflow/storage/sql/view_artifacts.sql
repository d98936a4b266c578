-- Every file that the attempts of a run, or of one step of it, left in the content store.
-- Parameters: run_id, step (key; null: every step)
SELECT step.key AS step, attempt.number AS attempt, artifact.name, artifact.kind, artifact.bytes, artifact.bytes_seen,
       artifact.sha256, artifact.media_type, artifact.is_cut
FROM attempt
JOIN step ON step.id = attempt.step_id
JOIN artifact ON artifact.attempt_id = attempt.id
WHERE attempt.run_id = :run_id AND (CAST(:step AS text) IS NULL OR step.key = CAST(:step AS text))
ORDER BY step.position, attempt.number, array_position(ARRAY['stdout', 'stderr'], artifact.kind), artifact.name
