-- Note on its row what an attempt is about to reserve, before anybody is asked for it.
-- Parameters: attempt_id, claim_token, reserved (json text: steps, tokens, usd_nano)
-- Keeps true: only the holder of the claim writes it, and only while its attempt runs. What was granted stays
-- granted. No row back: the claim was lost.
UPDATE attempt
SET reserved = CASE WHEN reserved ? 'granted' THEN reserved ELSE CAST(:reserved AS jsonb) END
WHERE id = :attempt_id AND claim_token = :claim_token AND state IN ('running')
RETURNING id
