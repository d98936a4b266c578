-- Make a webhook that is told of what happens from now on; no row comes back where its project has one of that name.
-- Parameters: id, name, project (null: all), plan (null: all), url, types, salt, created_by
INSERT INTO webhook (id, name, project, plan, url, types, salt, created_by, from_event)
VALUES (:id, :name, :project, :plan, :url, CAST(:types AS jsonb), :salt, :created_by,
        (SELECT coalesce(max(audit_event.id), 0) FROM audit_event))
ON CONFLICT (project, name) DO NOTHING
RETURNING id, name, project, plan, url, types, created_at, created_by, disabled_at, disabled_by, disabled_code,
          failing_since, delivered_at, CASE WHEN previous_until > now() THEN previous_until END AS previous_until
