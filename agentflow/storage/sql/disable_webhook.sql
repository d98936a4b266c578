-- Tell a webhook nothing more; no row comes back where it is disabled or gone. What waits, waits until it is enabled.
-- Parameters: id, disabled_by, code
UPDATE webhook SET disabled_at = now(), disabled_by = :disabled_by, disabled_code = :code
WHERE id = :id AND disabled_at IS NULL
RETURNING id, name, project, plan, url, types, created_at, created_by, disabled_at, disabled_by, disabled_code,
          failing_since, delivered_at, CASE WHEN previous_until > now() THEN previous_until END AS previous_until
