-- Note that the content of some pruned runs could not be removed now.
-- Parameters: run_ids
UPDATE tombstone SET content_tried_at = clock_timestamp() WHERE has_content AND run_id = ANY(CAST(:run_ids AS uuid[]))
