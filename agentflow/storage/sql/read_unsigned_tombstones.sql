-- Tombstones that stand in no signed checkpoint yet, in the order of their pruning.
-- Parameters: limit
SELECT run_id, round, event_count AS sequence, event_head AS head, seal
FROM tombstone WHERE checkpoint IS NULL ORDER BY pruned_at LIMIT :limit
