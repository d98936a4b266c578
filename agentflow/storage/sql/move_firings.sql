-- Decide about firings of a schedule. The caller holds its row (take_schedule.sql, lock_schedule.sql).
-- Parameters: schedule_id, due_ats, states, reasons (arrays, one entry a firing; reasons json text)
-- Keeps true: only what is open is decided; what is being started, or has an end, stays.
UPDATE firing SET state = decided.state, reason = CAST(decided.reason AS jsonb), noted_at = now()
FROM unnest(CAST(:due_ats AS timestamptz[]), CAST(:states AS text[]), CAST(:reasons AS text[]))
    AS decided (due_at, state, reason)
WHERE firing.schedule_id = :schedule_id AND firing.due_at = decided.due_at AND firing.state IN ('due', 'queued')
RETURNING firing.due_at
