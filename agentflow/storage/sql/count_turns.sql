-- Count anew how many items of foreachs await their turn. The caller holds the run alone.
-- Parameters: step_ids
-- Keeps true: children - released are the items that await their turn.
UPDATE step
SET released = children - (
        SELECT count(*) FROM step AS waiting
        WHERE waiting.run_id = step.run_id AND waiting.parent = step.key AND waiting.awaits_turn AND waiting.state IN ('pending')
          AND waiting.key = step.key || '[' || waiting.item || ']')
WHERE id = ANY(CAST(:step_ids AS uuid[])) AND state IN ('pending') AND children IS NOT NULL
RETURNING step.id, step.key, step.position, step.state, step.action, step.when_rule, step.is_sink, step.children, step.released,
          step.needs_open, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken
