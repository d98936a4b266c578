-- Remove a webhook with its deliveries; no row comes back where it is gone.
-- Parameters: id
DELETE FROM webhook WHERE id = :id
RETURNING id, name, project, plan, url, types, created_at, created_by, disabled_at, disabled_by, disabled_code,
          failing_since, delivered_at, CASE WHEN previous_until > now() THEN previous_until END AS previous_until
