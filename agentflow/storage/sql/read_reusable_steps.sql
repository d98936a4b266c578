-- The steps of a run that succeeded, and what ended inside of its foreachs, each with the attempt that did it and the files of that; what the engine decided itself
-- has none. A plain read of one moment: what ended never changes, so what a fork takes over stays true whatever becomes of the
-- run meanwhile.
-- Parameters: run_id, decided_actions (text[]: those of the engine's own steps that a fork takes over)
SELECT step.key, step.action, step.exit_code, step.result, step.result IS NOT NULL AS has_result, step.choice,
       step.state, step.children, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken,
       attempt.number, attempt.worker, attempt.started_at, attempt.ended_at, attempt.signal,
       CASE WHEN attempt.id IS NULL THEN step.reason ELSE attempt.reason END AS reason,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', artifact.name, 'kind', artifact.kind, 'bytes', artifact.bytes, 'bytes_seen', artifact.bytes_seen,
                   'sha256', artifact.sha256, 'media_type', artifact.media_type, 'is_cut', artifact.is_cut)
               ORDER BY artifact.name), '[]')
        FROM artifact WHERE artifact.attempt_id = attempt.id) AS artifacts
FROM step LEFT JOIN attempt ON attempt.step_id = step.id AND attempt.number = step.attempts AND attempt.state = 'succeeded'
WHERE step.run_id = :run_id
  AND (step.parent IS NOT NULL AND step.state IN ('succeeded', 'failed', 'skipped', 'cancelled')
       OR step.parent IS NULL AND step.state = 'succeeded'
          AND (attempt.id IS NOT NULL OR step.action = ANY(CAST(:decided_actions AS text[]))))
ORDER BY step.position
