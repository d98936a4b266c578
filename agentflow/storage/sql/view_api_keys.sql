-- The keys, those that open something first, then by name. A plain read.
SELECT public_id, name, role, project,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END AS state,
       created_at, created_by, expires_at, revoked_at, revoked_by, last_used_at
FROM api_key ORDER BY revoked_at NULLS FIRST, name, created_at
