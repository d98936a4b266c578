-- Pick due steps that no doorbell is on its way for, fairly by run, and note them as sent. The caller sends after its commit.
-- Steps with a concurrency key stand in line instead (stamp_line.sql). Of those that are yet to ask a rate key for a ticket
-- only so many are out at a time (asks): most will be refused, and whoever is due by a ticket must not wait behind them.
-- Suspects are sent one at a time: no other than the one whose turn it is (find_suspect.sql).
-- Within a run what has a higher priority goes first. A run of priority p has 1 + p steps in a turn where others have one;
-- in a turn each has its first before any has its second, the oldest first, so that no run waits for ever for another.
-- Twice the room is looked at under the lock, since somebody else may hold some of it; what is behind comes the next time.
-- Parameters: queue, room, asks, suspect (its id, or null), suspected_from
-- Keeps true: two dispatchers never stamp the same step (SKIP LOCKED, and the guard on sent_at is re-read under the lock).
WITH due AS (
    SELECT step.id, step.not_before, CASE WHEN step.ticket_at IS NULL THEN step.rate_key END AS asked_key,
           run_state.priority, CASE WHEN step.ticket_at IS NULL THEN row_number() OVER (
               PARTITION BY step.run_id ORDER BY step.priority DESC, step.not_before, step.position) ELSE 0 END AS place
    FROM step JOIN run_state ON run_state.run_id = step.run_id
    WHERE step.state IN ('ready', 'retrying') AND step.not_before <= now() AND step.sent_at IS NULL
      AND step.queue = :queue AND step.slot_key IS NULL
      AND (step.joint_losses < :suspected_from OR step.id = CAST(:suspect AS uuid)) AND run_state.state = 'running' AND run_state.rests_since IS NULL
), turns AS (
    SELECT id, not_before, asked_key, place, (place + priority) / (1 + priority) AS turn FROM due
), asking AS MATERIALIZED (
    SELECT rate_key, count(*) AS steps FROM step
    WHERE queue = :queue AND state IN ('ready', 'retrying') AND slot_key IS NULL AND rate_key IS NOT NULL
      AND ticket_at IS NULL AND sent_at IS NOT NULL
    GROUP BY rate_key
), ranked AS (
    SELECT turns.*,
           row_number() OVER (PARTITION BY turns.asked_key ORDER BY turn, place, not_before) + coalesce(asking.steps, 0) AS ask
    FROM turns LEFT JOIN asking ON asking.rate_key = turns.asked_key
), first AS MATERIALIZED (
    SELECT id, turn, place, not_before FROM ranked WHERE asked_key IS NULL OR ask <= :asks
    ORDER BY turn, place, not_before
    LIMIT 2 * :room
), picked AS (
    SELECT step.id, first.turn, first.place FROM step JOIN first ON first.id = step.id
    WHERE step.sent_at IS NULL AND step.state IN ('ready', 'retrying')
    ORDER BY first.turn, first.place, first.not_before
    LIMIT :room
    FOR NO KEY UPDATE OF step SKIP LOCKED
)
UPDATE step SET sent_at = now() FROM picked, run WHERE step.id = picked.id AND run.id = step.run_id
RETURNING step.id, step.run_id, step.key, step.failures + step.losses AS retries, picked.turn, picked.place, step.not_before,
       run.plan_fingerprint
