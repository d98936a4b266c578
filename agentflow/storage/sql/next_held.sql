-- In how many seconds the next of the held steps is to be looked at; null where none waits for a time to come.
SELECT extract(epoch FROM step.not_before - now()) AS seconds
FROM step JOIN run_state ON run_state.run_id = step.run_id
WHERE step.state = 'held' AND step.not_before > now() AND run_state.state = 'running'
ORDER BY step.not_before LIMIT 1
