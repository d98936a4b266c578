-- Extend the leases of a process's attempts.
-- Parameters: attempt_ids, claim_tokens, lease_seconds
-- Keeps true: only running attempts of these claims are extended, rows locked in id order; a token that comes back with
-- is_stop_requested or is_yield_requested must end its work, one that does not come back has lost its claim.
WITH mine AS (
    SELECT id FROM attempt
    WHERE claim_token = ANY(CAST(:claim_tokens AS uuid[])) AND state = 'running' AND id = ANY(CAST(:attempt_ids AS uuid[]))
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE attempt SET lease_until = now() + make_interval(secs => :lease_seconds)
FROM mine WHERE attempt.id = mine.id
RETURNING attempt.claim_token, attempt.is_stop_requested, attempt.is_yield_requested
