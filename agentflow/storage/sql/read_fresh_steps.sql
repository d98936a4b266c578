-- Steps that the caller has just made.
-- Parameters: run_id, step_ids
SELECT step.id, step.key, step.position, step.state, step.action, step.when_rule, step.is_sink, step.children, step.released,
          step.needs_open, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken
FROM step WHERE run_id = :run_id AND id = ANY(CAST(:step_ids AS uuid[])) ORDER BY position
