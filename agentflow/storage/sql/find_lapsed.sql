-- Running attempts whose lease is over; a plain read, lock_lapsed_attempt.sql decides.
-- Parameters: limit
SELECT id, run_id, step_id FROM attempt WHERE state = 'running' AND lease_until < now() ORDER BY lease_until LIMIT :limit
