-- Pick the due steps whose turn it is in the lines before concurrency keys, and note them as sent. The caller sends after its commit.
-- Parameters: queues, room, patience_seconds, suspect (the id of the one whose turn it is, or null), suspected_from
-- A line is one over all runs and queues: who was given a ticket before stands first, then who fell due first. As many are
-- sent as there are free places (up to a step's own limit), less those sent within patience_seconds and not yet claimed.
-- Each point of priority, of the step and of its run, lets a step stand as if it had fallen due a minute before.
-- Suspects whose turn it is not (find_suspect.sql) stand aside.
-- Whoever has no place keeps those behind from passing. Two are left out of the line: a step in a queue that has not
-- answered an older doorbell of the key within patience_seconds, and a step that would only be given a ticket while as
-- many tickets of its rate as there are free places are out for the next patience_seconds (they would grow stale in line).
-- Keeps true: two dispatchers never stamp the same step (SKIP LOCKED, and the guard on sent_at is re-read under the lock).
-- That never more run than there are places is kept by claim_step.sql alone.
WITH line AS MATERIALIZED (
    SELECT step.id, step.queue, step.slot_key, step.slot_limit, step.rate_key, step.ticket_at, step.not_before,
           step.position, step.sent_at,
           step.not_before - make_interval(mins => step.priority + run_state.priority) AS stands_since,
           step.joint_losses < :suspected_from OR step.id = CAST(:suspect AS uuid) AS may_go
    FROM step JOIN run_state ON run_state.run_id = step.run_id
    WHERE step.slot_key IS NOT NULL AND step.state IN ('ready', 'retrying')
      AND run_state.state = 'running' AND run_state.rests_since IS NULL
), rung AS MATERIALIZED (
    SELECT slot_key, count(*) AS steps FROM line
    WHERE sent_at >= now() - make_interval(secs => :patience_seconds)
    GROUP BY slot_key
), unanswered AS MATERIALIZED (
    SELECT DISTINCT slot_key, queue FROM line WHERE sent_at < now() - make_interval(secs => :patience_seconds)
), free AS MATERIALIZED (
    SELECT wanted.slot_key, wanted.slot_limit, -coalesce(rung.steps, 0) + (
               SELECT count(*) FROM slot
               WHERE slot.key = wanted.slot_key AND slot.number <= wanted.slot_limit AND slot.attempt_id IS NULL
           ) AS places
    FROM (SELECT DISTINCT slot_key, slot_limit FROM line) AS wanted LEFT JOIN rung ON rung.slot_key = wanted.slot_key
), open AS MATERIALIZED (
    SELECT slot_key FROM free GROUP BY slot_key HAVING max(places) > 0
), promised AS MATERIALIZED (
    SELECT slot_key, rate_key, count(*) AS tickets FROM line
    WHERE ticket_at > now() AND ticket_at < now() + make_interval(secs => :patience_seconds)
    GROUP BY slot_key, rate_key
), waiting AS (
    SELECT line.id, line.slot_key, free.places,
           row_number() OVER (
               PARTITION BY line.slot_key ORDER BY line.ticket_at IS NULL, line.stands_since, line.position, line.id) AS turn
    FROM line
    JOIN free ON free.slot_key = line.slot_key AND free.slot_limit = line.slot_limit
    LEFT JOIN promised ON promised.slot_key = line.slot_key AND promised.rate_key = line.rate_key
    WHERE line.slot_key IN (SELECT slot_key FROM open)
      AND line.may_go AND line.sent_at IS NULL AND line.not_before <= now() AND line.queue = ANY(CAST(:queues AS text[]))
      AND (line.slot_key, line.queue) NOT IN (SELECT slot_key, queue FROM unanswered)
      AND (line.ticket_at IS NOT NULL OR coalesce(promised.tickets, 0) < greatest(free.places, 1))
), admitted AS (
    SELECT id, turn, bool_and(turn <= places) OVER (PARTITION BY slot_key ORDER BY turn) AS has_place FROM waiting
), picked AS (
    SELECT step.id, admitted.turn FROM step JOIN admitted ON admitted.id = step.id
    WHERE admitted.has_place AND step.sent_at IS NULL AND step.state IN ('ready', 'retrying')
    ORDER BY admitted.turn, step.not_before
    LIMIT :room
    FOR NO KEY UPDATE OF step SKIP LOCKED
)
UPDATE step SET sent_at = now() FROM picked, run WHERE step.id = picked.id AND run.id = step.run_id
RETURNING step.id, step.run_id, step.key, step.failures + step.losses AS retries, picked.turn, picked.turn AS place, step.not_before,
       run.plan_fingerprint
