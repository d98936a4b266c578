-- Which of some keys still open something.
-- Parameters: public_ids (text[])
SELECT public_id FROM api_key
WHERE public_id = ANY (CAST(:public_ids AS text[])) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
