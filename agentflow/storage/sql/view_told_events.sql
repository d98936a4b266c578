-- The events in a stretch that may be told to somebody, the earliest first. Which are, domain/webhook.py says; this only
-- spares the reading of claims and settles that end well. A plain read.
-- Parameters: after_id, until_id, limit
SELECT id, run_id, at, action, moved, reason, facts
FROM audit_event
WHERE id > :after_id AND id <= :until_id
  AND (action NOT IN ('claim', 'settle', 'snooze') OR jsonb_exists(moved, 'run') OR jsonb_exists(facts, 'opened')
       OR reason ->> 'code' = 'budget_exhausted' OR jsonb_path_exists(moved, '$.*[1] ? (@ == "failed")'))
ORDER BY id
LIMIT :limit
