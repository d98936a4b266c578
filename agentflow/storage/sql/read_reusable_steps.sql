-- The steps of a run that succeeded, each with the attempt that did it and the files of that. A plain read of one moment:
-- an attempt that ended never changes, so what a fork takes over stays true whatever becomes of the run meanwhile.
-- Parameters: run_id
SELECT step.key, step.action, step.exit_code, step.result, step.result IS NOT NULL AS has_result, attempt.number, attempt.worker, attempt.started_at, attempt.ended_at,
       attempt.signal, attempt.reason,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', artifact.name, 'kind', artifact.kind, 'bytes', artifact.bytes, 'bytes_seen', artifact.bytes_seen,
                   'sha256', artifact.sha256, 'media_type', artifact.media_type, 'is_cut', artifact.is_cut)
               ORDER BY artifact.name), '[]')
        FROM artifact WHERE artifact.attempt_id = attempt.id) AS artifacts
FROM step JOIN attempt ON attempt.step_id = step.id AND attempt.number = step.attempts
WHERE step.run_id = :run_id AND step.state = 'succeeded' AND attempt.state = 'succeeded'
ORDER BY step.position
