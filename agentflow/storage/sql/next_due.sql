-- Seconds until the next step falls due that has no doorbell yet (below 0: it is due now); null when there is none.
SELECT extract(epoch FROM min(step.not_before) - now())
FROM step JOIN run_state ON run_state.run_id = step.run_id
WHERE step.state IN ('ready', 'retrying') AND step.sent_at IS NULL AND run_state.state = 'running' AND run_state.exhausted IS NULL
