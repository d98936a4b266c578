-- Note that nothing of some pruned runs lies in the store any more.
-- Parameters: run_ids
UPDATE tombstone SET has_content = false WHERE has_content AND run_id = ANY(CAST(:run_ids AS uuid[]))
