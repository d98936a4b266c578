-- Running attempts whose lease is over; a plain read, lock_lapsed_attempt.sql decides.
-- Parameters: limit
-- By lot: attempts that cannot be ended now must not keep the others out of sight.
SELECT id, run_id, step_id FROM attempt WHERE state = 'running' AND lease_until < now() ORDER BY random() LIMIT :limit
