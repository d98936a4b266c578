-- Make a key, unless a valid or expired one has its name already: then no row comes back.
-- Parameters: public_id, secret_sha256, name, role, project (null: all), created_by, seconds (of life, null: for ever)
INSERT INTO api_key (public_id, secret_sha256, name, role, project, created_by, expires_at)
VALUES (:public_id, :secret_sha256, :name, :role, :project, :created_by,
        now() + make_interval(secs => CAST(:seconds AS double precision)))
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
RETURNING public_id, name, role, project, 'valid' AS state, created_at, created_by, expires_at, revoked_at, revoked_by,
          last_used_at
