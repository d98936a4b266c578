-- The steps that wait for a limit, in their order, the first few of each key with the number of all. For a rate (kind
-- rate): those with a ticket, by its time. For a concurrency (kind concurrency): those that are due, as they stand in line.
-- Parameters: most (steps of a key), project (only its steps have is_own, null: all do; of the others one row of a key
-- comes along, for the number of all)
WITH limited AS (
    SELECT step.*, step.not_before - make_interval(mins => step.priority + run_state.priority) AS stands_since,
           CAST(:project AS text) IS NULL OR run.project = CAST(:project AS text) AS is_own
    FROM step JOIN run_state ON run_state.run_id = step.run_id JOIN run ON run.id = step.run_id
    WHERE step.state IN ('ready', 'retrying') AND (step.slot_key IS NOT NULL OR step.rate_key IS NOT NULL)
      AND run_state.state = 'running' AND run_state.rests_since IS NULL
), waiting AS (
    SELECT 'rate' AS kind, rate_key AS limit_key, run_id, key AS step, ticket_at AS at, is_own,
           row_number() OVER (PARTITION BY rate_key, is_own ORDER BY ticket_at, position, id) AS turn,
           count(*) OVER (PARTITION BY rate_key) AS total
    FROM limited WHERE rate_key IS NOT NULL AND ticket_at IS NOT NULL
    UNION ALL
    SELECT 'concurrency', slot_key, run_id, key, not_before, is_own,
           row_number() OVER (PARTITION BY slot_key, is_own ORDER BY ticket_at IS NULL, stands_since, position, id),
           count(*) OVER (PARTITION BY slot_key)
    FROM limited WHERE slot_key IS NOT NULL AND not_before <= now()
)
SELECT kind, limit_key, run_id, step, at, is_own, total FROM waiting
WHERE turn <= CASE WHEN is_own THEN :most ELSE 1 END
ORDER BY kind, limit_key, turn
