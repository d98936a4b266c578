-- Where the steps of a run stand: what their order and their needs follow from.
-- Parameters: run_id
SELECT id, key, action, children, parent, item FROM step WHERE run_id = :run_id ORDER BY position
