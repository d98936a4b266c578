-- Keep a new schedule, once per (project, name).
-- Parameters: id, project, name, kind, spec (json text), time_zone, jitter_seconds, overlap, max_queued, catch_up_seconds,
--             plan_name, plan_version, vars (json text), budget (json text or null), directive, is_enabled, next_at,
--             fire_at, created_by
-- Keeps true: of two that are created under one name one gets a row back, the other none.
INSERT INTO schedule (id, project, name, kind, spec, time_zone, jitter_seconds, overlap, max_queued, catch_up_seconds,
                      plan_name, plan_version, vars, budget, directive, is_enabled, next_at, fire_at, created_by, version)
VALUES (:id, :project, :name, :kind, CAST(:spec AS jsonb), :time_zone, :jitter_seconds, :overlap, :max_queued,
        :catch_up_seconds, :plan_name, :plan_version, CAST(:vars AS jsonb), CAST(:budget AS jsonb), :directive,
        :is_enabled, :next_at, :fire_at, :created_by, 1)
ON CONFLICT (project, name) DO NOTHING
RETURNING id
