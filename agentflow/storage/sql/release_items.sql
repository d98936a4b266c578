-- Give further items of a foreach their turn, so that max_parallel of them are under way.
-- Parameters: step_id (of the foreach, whose row the transaction has locked before), max_parallel
-- Keeps true: an item has its turn once, the first items first. Whoever releases has told the foreach of an end before, and
-- so waited for its row: the items are read as the one before left them, and nobody else changes those without a turn. Under
-- way are the items that have not ended (needs_open) less those without a turn (children - released).
WITH foreach AS (
    SELECT id, run_id, key, greatest(0, :max_parallel - (needs_open - (children - released))) AS room
    FROM step WHERE id = :step_id AND state = 'pending' AND children IS NOT NULL
), turn AS MATERIALIZED (
    SELECT waiting.run_id, waiting.parent, waiting.item FROM foreach
    JOIN step AS waiting ON waiting.run_id = foreach.run_id AND waiting.parent = foreach.key
    WHERE waiting.awaits_turn AND waiting.state = 'pending' AND waiting.key = foreach.key || '[' || waiting.item || ']'
    ORDER BY waiting.item LIMIT (SELECT room FROM foreach)
), moved AS (
    UPDATE step SET released = released + (SELECT count(*) FROM turn) FROM foreach WHERE step.id = foreach.id AND EXISTS (SELECT FROM turn)
)
UPDATE step SET needs_open = step.needs_open - CASE WHEN step.action = 'group' THEN 0 ELSE 1 END, awaits_turn = false
FROM turn
WHERE step.run_id = turn.run_id AND step.parent = turn.parent AND step.item = turn.item AND step.awaits_turn
  AND step.state IN ('pending')
RETURNING step.id, step.key, step.position, step.state, step.action, step.when_rule, step.is_sink, step.children, step.released,
          step.needs_open, step.needs_succeeded, step.needs_failed, step.needs_skipped, step.needs_cancelled, step.needs_untaken
