-- Pruned runs whose content may still lie in the store, the longest pruned first.
-- Parameters: limit
SELECT run_id FROM tombstone WHERE has_content ORDER BY pruned_at LIMIT :limit
