-- The webhooks by name: all, or those of a project. A plain read.
-- Parameters: project (null: all), reference (a name or an id; null: all)
SELECT id, name, project, plan, url, types, created_at, created_by, disabled_at, disabled_by, disabled_code,
          failing_since, delivered_at, CASE WHEN previous_until > now() THEN previous_until END AS previous_until
FROM webhook
WHERE (CAST(:project AS text) IS NULL OR project = CAST(:project AS text))
  AND (CAST(:reference AS text) IS NULL OR CAST(:reference AS text) IN (name, id))
ORDER BY name, project NULLS FIRST
