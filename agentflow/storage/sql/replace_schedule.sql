-- Put another schedule in the place of one. The caller holds its row (lock_schedule.sql).
-- Parameters: id, kind, spec (json text), time_zone, jitter_seconds, overlap, max_queued, catch_up_seconds, plan_name,
--             plan_version, vars (json text), budget (json text or null), directive, is_enabled, next_at, fire_at
-- Keeps true: it stays the same schedule: its firings and runs, their keys and who made it.
UPDATE schedule
SET kind = :kind, spec = CAST(:spec AS jsonb), time_zone = :time_zone, jitter_seconds = :jitter_seconds,
    overlap = :overlap, max_queued = :max_queued, catch_up_seconds = :catch_up_seconds, plan_name = :plan_name,
    plan_version = :plan_version, vars = CAST(:vars AS jsonb), budget = CAST(:budget AS jsonb), directive = :directive,
    is_enabled = :is_enabled, next_at = :next_at, fire_at = :fire_at, updated_at = now(), version = version + 1
WHERE id = :id
RETURNING version
