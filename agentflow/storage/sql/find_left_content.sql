-- Pruned runs whose content may still lie in the store: those that nobody tried yet, then those tried longest ago.
-- Parameters: limit
-- Keeps true: what resists stands in nobody's way.
SELECT run_id FROM tombstone WHERE has_content ORDER BY content_tried_at NULLS FIRST, pruned_at LIMIT :limit
