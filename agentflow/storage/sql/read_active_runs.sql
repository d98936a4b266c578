-- The runs of a schedule that have not ended, with what their shown state follows from, the oldest firing first.
-- Parameters: schedule_id
SELECT firing.run_id, firing.cause, standing.state, standing.paused IS NOT NULL AS is_paused,
       standing.exhausted IS NOT NULL AS is_exhausted,
       EXISTS (SELECT FROM step WHERE step.run_id = standing.run_id AND step.state = 'held'
               AND coalesce(step.reason ->> 'code', '') IN ('awaits_decision', 'awaits_person', 'awaits_signal')) AS is_holding,
       EXISTS (SELECT FROM step
               WHERE step.run_id = standing.run_id AND (step.state IN ('ready', 'running', 'retrying')
                   OR step.state = 'held' AND coalesce(step.reason ->> 'code', '') NOT IN ('awaits_decision', 'awaits_person', 'awaits_signal'))) AS is_moving
FROM run_state AS standing
JOIN firing ON firing.run_id = standing.run_id
WHERE standing.state NOT IN ('completed', 'partial', 'failed', 'cancelled') AND firing.schedule_id = :schedule_id
ORDER BY firing.due_at
