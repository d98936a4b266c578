-- End every step of a run that is not running and not final, because the run is ending. The caller holds the run.
-- Parameters: run_id, new_state (skipped or cancelled), reason (json text)
-- Keeps true: nothing new starts in this run; running attempts are left to settle. Open gates of it are withdrawn.
WITH waiting AS (
    SELECT id, state FROM step
    WHERE run_id = :run_id AND state IN ('pending', 'ready', 'retrying', 'held')
    ORDER BY id FOR NO KEY UPDATE
), withdrawn AS (
    UPDATE gate SET state = 'withdrawn', decided_at = now() WHERE run_id = :run_id AND state = 'open'
)
UPDATE step
SET state = :new_state, reason = CAST(:reason AS jsonb), sent_at = NULL, not_before = NULL
FROM waiting
WHERE step.id = waiting.id
RETURNING step.id, step.key, step.is_sink, waiting.state AS old_state
