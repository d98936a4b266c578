-- Give a webhook another salt, and so another secret; the one before is signed with too for a while.
-- Parameters: id, salt, grace_seconds
UPDATE webhook SET previous_salt = salt, salt = :salt,
                   previous_until = now() + make_interval(secs => CAST(:grace_seconds AS double precision))
WHERE id = :id
RETURNING id, name, project, plan, url, types, created_at, created_by, disabled_at, disabled_by, disabled_code,
          failing_since, delivered_at, CASE WHEN previous_until > now() THEN previous_until END AS previous_until
