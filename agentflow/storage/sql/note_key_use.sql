-- Note that a key was used. Whoever is noting the same just now is not waited for.
-- Parameters: public_id
UPDATE api_key SET last_used_at = now()
WHERE public_id = (SELECT public_id FROM api_key WHERE public_id = :public_id FOR UPDATE SKIP LOCKED)
