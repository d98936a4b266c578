-- Note what fell due of a schedule, and when it is due next. The caller holds its row (take_schedule.sql).
-- Parameters: id, old_next_at, next_at, fire_at, due_ats, states, reasons (arrays, one entry a due time; reasons json text)
-- Keeps true: a due time is noted once, whoever notes it; nobody goes on from a due time that another went on from.
WITH moved AS (
    UPDATE schedule SET next_at = :next_at, fire_at = :fire_at
    WHERE id = :id AND next_at = :old_next_at AND is_enabled
    RETURNING id
)
INSERT INTO firing (schedule_id, due_at, cause, state, reason)
SELECT moved.id, noted.due_at, 'scheduled', noted.state, CAST(noted.reason AS jsonb)
FROM moved
CROSS JOIN unnest(CAST(:due_ats AS timestamptz[]), CAST(:states AS text[]), CAST(:reasons AS text[]))
    AS noted (due_at, state, reason)
ON CONFLICT (schedule_id, due_at) DO NOTHING
RETURNING due_at
