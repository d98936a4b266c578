-- Whether steps without a doorbell are due, whether such steps wait in the line of a concurrency key, and how many seconds
-- it is until the next falls due (null when there is none). A line may have to wait for places: its being there is no
-- reason to look again at once.
SELECT coalesce(bool_or(step.slot_key IS NULL AND step.not_before <= now()), false) AS is_due,
       coalesce(bool_or(step.slot_key IS NOT NULL AND step.not_before <= now()), false) AS has_line,
       extract(epoch FROM min(step.not_before) FILTER (WHERE step.not_before > now()) - now()) AS seconds
FROM step JOIN run_state ON run_state.run_id = step.run_id
WHERE step.state IN ('ready', 'retrying') AND step.sent_at IS NULL AND run_state.state = 'running' AND run_state.rests_since IS NULL
