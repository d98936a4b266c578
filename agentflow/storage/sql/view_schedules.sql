-- Schedules as surfaces show them, by name, each with its last firing and how many wait.
-- Parameters: project, name; null means any
SELECT schedule.*, now() AS at, last.due_at AS last_due_at, last.state AS last_state, last.run_id AS last_run_id,
       (SELECT count(*) FROM firing
        WHERE firing.schedule_id = schedule.id AND firing.state IN ('due', 'queued', 'starting')) AS waiting
FROM schedule
LEFT JOIN LATERAL (
    SELECT due_at, state, run_id FROM firing WHERE firing.schedule_id = schedule.id ORDER BY due_at DESC LIMIT 1
) AS last ON true
WHERE (CAST(:project AS text) IS NULL OR schedule.project = CAST(:project AS text))
  AND (CAST(:name AS text) IS NULL OR schedule.name = CAST(:name AS text))
ORDER BY schedule.project, schedule.name
