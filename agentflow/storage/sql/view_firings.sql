-- A page of a schedule's firings, the latest due time first, each with the stored state of its run if that is still there.
-- Parameters: schedule_id, before (null: from the latest on), limit
SELECT firing.due_at, firing.cause, firing.state, firing.reason, firing.noted_at, firing.run_id,
       standing.state AS run_state
FROM firing
LEFT JOIN run_state AS standing ON standing.run_id = firing.run_id
WHERE firing.schedule_id = :schedule_id
  AND (CAST(:before AS timestamptz) IS NULL OR firing.due_at < CAST(:before AS timestamptz))
ORDER BY firing.due_at DESC
LIMIT :limit
