-- The webhooks that are enabled, each with the event after which it is told. A plain read.
SELECT id, name, project, plan, url, types, created_at, created_by, disabled_at, disabled_by, disabled_code,
       failing_since, delivered_at, previous_until, from_event
FROM webhook WHERE disabled_at IS NULL
