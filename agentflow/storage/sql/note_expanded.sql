-- Let a foreach wait for its items from now on. The caller holds the run alone.
-- Parameters: step_id, items, released
-- Keeps true: a foreach makes its items once; its counters of needs speak of its items from then on.
UPDATE step
SET children = :items, released = :released, needs_open = :items, needs_succeeded = 0, needs_failed = 0, needs_skipped = 0,
    needs_cancelled = 0, needs_untaken = 0
WHERE id = :step_id AND state IN ('pending') AND needs_open = 0 AND children IS NULL
RETURNING step.id, step.key, step.position, step.state, step.action, step.when_rule, step.is_sink, step.children, step.released,
          step.needs_open, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken
