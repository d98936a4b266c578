-- Which of some due times of a schedule have a firing that nothing replaces.
-- Parameters: schedule_id, due_ats
SELECT due_at FROM firing
WHERE schedule_id = :schedule_id AND due_at = ANY(CAST(:due_ats AS timestamptz[]))
  AND state NOT IN ('missed', 'skipped', 'refused')
