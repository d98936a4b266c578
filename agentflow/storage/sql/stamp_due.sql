-- Pick due steps that no doorbell is on its way for, fairly by run, and note them as sent. The caller sends after its commit.
-- Steps with a concurrency key stand in line instead (stamp_line.sql).
-- Parameters: queue, room
-- Keeps true: two dispatchers never stamp the same step (SKIP LOCKED, and the guard on sent_at is re-read under the lock).
WITH due AS (
    SELECT step.id, step.not_before, row_number() OVER (PARTITION BY step.run_id ORDER BY step.not_before, step.position) AS turn
    FROM step JOIN run_state ON run_state.run_id = step.run_id
    WHERE step.state IN ('ready', 'retrying') AND step.not_before <= now() AND step.sent_at IS NULL
      AND step.queue = :queue AND step.slot_key IS NULL AND run_state.state = 'running' AND run_state.exhausted IS NULL
), picked AS (
    SELECT step.id, due.turn FROM step JOIN due ON due.id = step.id
    WHERE step.sent_at IS NULL AND step.state IN ('ready', 'retrying')
    ORDER BY due.turn, due.not_before
    LIMIT :room
    FOR NO KEY UPDATE OF step SKIP LOCKED
)
UPDATE step SET sent_at = now() FROM picked, run WHERE step.id = picked.id AND run.id = step.run_id
RETURNING step.id, step.run_id, step.key, step.failures + step.losses AS retries, picked.turn, step.not_before,
       run.plan_fingerprint
