-- Let a schedule fire, or stop it. The caller holds its row (lock_schedule.sql).
-- Parameters: id, is_enabled, next_at, fire_at
UPDATE schedule
SET is_enabled = :is_enabled, next_at = :next_at, fire_at = :fire_at, updated_at = now(), version = version + 1
WHERE id = :id AND is_enabled <> :is_enabled
RETURNING version
