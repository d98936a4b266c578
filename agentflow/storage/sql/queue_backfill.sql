-- Queue due times of the past, new ones and those that started no run. The caller holds the schedule (lock_schedule.sql).
-- Parameters: schedule_id, due_ats
-- Keeps true: a due time that has a run, or is about to get one, gets no other.
INSERT INTO firing (schedule_id, due_at, cause, state)
SELECT :schedule_id, due_at, 'backfill', 'queued' FROM unnest(CAST(:due_ats AS timestamptz[])) AS wanted (due_at)
ON CONFLICT (schedule_id, due_at) DO UPDATE
SET cause = 'backfill', state = 'queued', reason = NULL, noted_at = now()
WHERE firing.state IN ('missed', 'skipped', 'refused')
RETURNING due_at
