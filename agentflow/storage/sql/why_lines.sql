-- Where the due steps of a run stand in the lines before concurrency keys, and how many places are free that each may take.
-- Parameters: run_id
-- The order is that of stamp_line.sql, over all runs.
WITH line AS (
    SELECT step.id, step.run_id, step.slot_key, step.slot_limit,
           row_number() OVER (
               PARTITION BY step.slot_key
               ORDER BY step.ticket_at IS NULL, step.not_before - make_interval(mins => step.priority + run_state.priority),
                        step.position, step.id) AS turn
    FROM step JOIN run_state ON run_state.run_id = step.run_id
    WHERE step.state IN ('ready', 'retrying') AND step.not_before <= now()
      AND run_state.state = 'running' AND run_state.rests_since IS NULL
      AND step.slot_key IN (SELECT slot_key FROM step WHERE run_id = :run_id AND slot_key IS NOT NULL)
)
SELECT line.id, line.slot_key, line.slot_limit, line.turn, (
           SELECT count(*) FROM slot
           WHERE slot.key = line.slot_key AND slot.number <= line.slot_limit AND slot.attempt_id IS NULL) AS free
FROM line WHERE line.run_id = :run_id
