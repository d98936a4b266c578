-- The key of a public id with the hash of its secret, and whether its last use is to be noted. A plain read.
-- Parameters: public_id, noted_seconds (how old the note of the last use may be)
SELECT public_id, name, role, project,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END AS state,
       created_at, created_by, expires_at, revoked_at, revoked_by, last_used_at, secret_sha256,
       coalesce(last_used_at < now() - make_interval(secs => :noted_seconds), true) AS is_to_note
FROM api_key WHERE public_id = :public_id
