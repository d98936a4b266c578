-- What templates and conditions may know of steps.
-- Parameters: run_id, keys
SELECT step.key, step.action, step.state, step.exit_code, step.result, step.choice, step.attempts,
       step.children, CASE WHEN step.children IS NULL THEN 0
           ELSE step.needs_failed + step.needs_cancelled + step.needs_skipped - step.needs_untaken END AS items_failed,
       ARRAY(SELECT artifact.name FROM artifact JOIN attempt ON attempt.id = artifact.attempt_id
             WHERE attempt.step_id = step.id AND attempt.number = step.attempts AND artifact.kind = 'file'
             ORDER BY artifact.name) AS artifacts
FROM step WHERE step.run_id = :run_id AND step.key = ANY(CAST(:keys AS text[]))
