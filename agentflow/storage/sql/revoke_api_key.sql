-- Revoke the key of a name; no row comes back where none stands. What it keeps true: a revoked key stays revoked.
-- Parameters: name, revoked_by
UPDATE api_key SET revoked_at = now(), revoked_by = :revoked_by WHERE name = :name AND revoked_at IS NULL
RETURNING public_id, name, role, project, 'revoked' AS state, created_at, created_by, expires_at, revoked_at,
          revoked_by, last_used_at
