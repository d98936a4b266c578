-- Note in which checkpoint tombstones stand.
-- Parameters: number, run_ids
UPDATE tombstone SET checkpoint = :number WHERE checkpoint IS NULL AND run_id = ANY(CAST(:run_ids AS uuid[]))
