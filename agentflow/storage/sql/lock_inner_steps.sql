-- What is not final inside of a foreach or of one of its items, at any depth. The caller holds the run alone.
-- Parameters: run_id, around (the key of the foreach or of the item)
-- Keeps true: rows are locked in id order.
SELECT id, key, state, action = 'group' OR children IS NOT NULL AS is_open
FROM step
WHERE run_id = :run_id AND parent IS NOT NULL AND state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')
  AND (starts_with(key, CAST(:around AS text) || '[') OR starts_with(key, CAST(:around AS text) || '.'))
ORDER BY id FOR NO KEY UPDATE
