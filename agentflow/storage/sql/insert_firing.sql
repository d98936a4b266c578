-- Note a firing that a person asks for now. The caller holds the schedule's row (lock_schedule.sql).
-- Parameters: schedule_id, due_at
-- Keeps true: one firing per schedule and due time.
INSERT INTO firing (schedule_id, due_at, cause, state) VALUES (:schedule_id, :due_at, 'run_now', 'due')
ON CONFLICT (schedule_id, due_at) DO NOTHING
RETURNING due_at
