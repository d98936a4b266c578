-- Forget a schedule with its firings; its runs stay. The caller holds its row (lock_schedule.sql).
-- Parameters: id
DELETE FROM schedule WHERE id = :id RETURNING id
