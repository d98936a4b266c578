-- Note that an attempt was granted what it reserved, and by which grant, before it begins.
-- Parameters: attempt_id, claim_token, grant
-- Keeps true: an attempt that ended without the mark has used nothing; one whose claim was lost never gets it.
UPDATE attempt SET reserved = reserved || jsonb_build_object('granted', CAST(:grant AS text))
WHERE id = :attempt_id AND claim_token = :claim_token AND state IN ('running') AND reserved IS NOT NULL
RETURNING id
