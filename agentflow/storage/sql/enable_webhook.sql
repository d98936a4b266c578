-- Tell a webhook of what happens from now on, and of what waits; no row comes back where it is enabled or gone.
-- Parameters: id
UPDATE webhook SET disabled_at = NULL, disabled_by = NULL, disabled_code = NULL, failing_since = NULL,
                   from_event = (SELECT coalesce(max(audit_event.id), 0) FROM audit_event)
WHERE id = :id AND disabled_at IS NOT NULL
RETURNING id, name, project, plan, url, types, created_at, created_by, disabled_at, disabled_by, disabled_code,
          failing_since, delivered_at, CASE WHEN previous_until > now() THEN previous_until END AS previous_until
