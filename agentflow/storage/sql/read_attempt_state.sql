-- How an attempt stands; a plain read. No row: it is unknown.
-- Parameters: attempt_id
SELECT state FROM attempt WHERE id = :attempt_id
