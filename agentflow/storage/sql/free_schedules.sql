-- Note of which schedules that were held up no run rests any more.
-- Keeps true: a schedule stays held while a run of it rests: paused, exhausted, or waiting for a person.
UPDATE schedule SET held_since = NULL
WHERE held_since IS NOT NULL AND NOT EXISTS (
    SELECT FROM firing
    JOIN run_state AS standing ON standing.run_id = firing.run_id
    WHERE firing.schedule_id = schedule.id AND standing.state = 'running'
      AND (standing.rests_since IS NOT NULL
           OR EXISTS (SELECT FROM step WHERE step.run_id = standing.run_id AND step.state = 'held'
                          AND coalesce(step.reason ->> 'code', '') IN ('awaits_decision', 'awaits_person', 'awaits_signal'))
              AND NOT EXISTS (SELECT FROM step
                              WHERE step.run_id = standing.run_id AND (step.state IN ('ready', 'running', 'retrying')
                                  OR step.state = 'held' AND coalesce(step.reason ->> 'code', '') NOT IN ('awaits_decision', 'awaits_person', 'awaits_signal')))))
RETURNING project, name
