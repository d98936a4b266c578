-- Give further items of a foreach their turn, so that max_parallel of them are under way.
-- Parameters: run_id, step_id, key (of the foreach), max_parallel
-- Keeps true: an item has its turn once; the foreach's row is locked before those of its items, which nobody else
-- changes while they wait for it. Under way are the items that have not ended (needs_open) less those without a turn.
WITH foreach AS (
    SELECT id, released, least(children, released + greatest(0, :max_parallel - (needs_open - (children - released)))) AS target
    FROM step WHERE id = :step_id AND state = 'pending' AND children IS NOT NULL
    FOR NO KEY UPDATE
), moved AS (
    UPDATE step SET released = foreach.target FROM foreach WHERE step.id = foreach.id AND foreach.target > foreach.released
    RETURNING foreach.released AS first, foreach.target AS behind
)
UPDATE step SET needs_open = step.needs_open - 1, awaits_turn = false
FROM moved
WHERE step.run_id = :run_id AND step.parent = :key AND step.item >= moved.first AND step.item < moved.behind
  AND step.awaits_turn AND step.state IN ('pending')
RETURNING step.id, step.key, step.position, step.state, step.action, step.when_rule, step.is_sink, step.children, step.released,
          step.needs_open, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken
