-- The firings of a schedule that are not decided yet, or decided and not submitted, in the order of their due times.
-- Parameters: schedule_id
SELECT due_at, cause, state FROM firing
WHERE schedule_id = :schedule_id AND state IN ('due', 'queued', 'starting')
ORDER BY due_at
