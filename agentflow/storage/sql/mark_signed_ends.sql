-- Note in which checkpoint the ends of runs stand. A run that went on since, or that somebody holds, is left: the next checkpoint takes it.
-- Parameters: number, run_ids, sequences
-- Keeps true: only the end that was signed is noted as signed; a retry that came between has a longer chain.
WITH signed AS (
    SELECT run_state.run_id
    FROM run_state
    JOIN unnest(CAST(:run_ids AS uuid[]), CAST(:sequences AS int[])) AS leaf (run_id, sequence)
      ON leaf.run_id = run_state.run_id AND leaf.sequence = run_state.event_sequence
    WHERE run_state.ended_at IS NOT NULL AND run_state.checkpoint IS NULL
    FOR NO KEY UPDATE OF run_state SKIP LOCKED
)
UPDATE run_state SET checkpoint = :number FROM signed WHERE run_state.run_id = signed.run_id
