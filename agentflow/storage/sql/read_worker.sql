-- Which worker has, or had, an attempt.
-- Parameters: attempt_id
SELECT worker FROM attempt WHERE id = :attempt_id
