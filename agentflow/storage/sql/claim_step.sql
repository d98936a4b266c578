-- Take a step for one attempt, with a place of its concurrency key and a ticket of its rate key where it names them.
-- Parameters: run_id, step_id, attempt_id, claim_token, worker, lease_seconds, lateness_seconds, suspected_from
-- Lock order: run (shared), step, then at most one slot, then the rate. A slot is never waited for (SKIP LOCKED). A rate
-- is, but whoever holds it waits for nothing more: no circle can close. A settle takes run, step, attempt, its own slot.
-- Keeps true: the run is running, does not rest, and cannot begin to fail, rest or cancel before this commits (its row is shared);
-- the step is due, and, where it is a suspect, has its turn: a doorbell is noted as sent (find_suspect.sql), so that an
-- old copy of one starts none; no other claim gets the same step (the row is updated, and attempt_one_running stands behind it).
-- Whoever waits for the run alone is not passed (see the gate in lock_run.sql).
-- A place is one attempt's: a row of the slot table, numbered from 1 to the step's own limit.
-- Tickets of a rate are spaced by the generic cell rate algorithm (ITU-T I.371, its virtual scheduling form): with the
-- theoretical arrival time T, the interval I and the burst b, the next ticket is for max(T - (b - 1) I, now), and T
-- becomes max(T, now) + I. From the new T the ticket's time is max(T - b I, now). A step that comes back at the time of
-- its ticket, or at most lateness_seconds or I after it, uses it. The running step keeps the time of its ticket, for an
-- attempt that is given back before its work began has not used it (end_attempt.sql); every other attempt takes it away.
-- One row for a due step: refusal is null (it is taken), slot_busy, or rate_limited with the time (until) of the ticket
-- that it was given; it holds no slot then. The caller notes either (snooze_step.sql, forget_sent.sql).
-- No row: the claim was refused for another reason; explain_claim.sql tells which.
WITH gate AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(hashtextextended(CAST(:run_id AS text), 0))
), shared AS (
    SELECT run_id, coalesce(extract(epoch FROM now() - started_at), 0) - rested_seconds AS active_seconds_used
    FROM run_state, gate
    WHERE run_id = :run_id AND state = 'running' AND rests_since IS NULL
    FOR SHARE OF run_state
), due AS (
    SELECT step.id, step.run_id, step.key, step.state, step.not_before, step.event_sequence, step.event_head,
           step.slot_key, step.slot_limit, step.rate_key, step.rate_burst, step.ticket_at,
           make_interval(secs => step.rate_interval_seconds) AS spacing,
           step.rate_key IS NOT NULL AND NOT coalesce(step.ticket_at BETWEEN
               now() - make_interval(secs => greatest(:lateness_seconds, step.rate_interval_seconds)) AND now(), false) AS lacks_ticket
    FROM step JOIN shared ON shared.run_id = step.run_id
    WHERE step.id = :step_id AND step.state IN ('ready', 'retrying') AND step.not_before <= now()
      AND (step.joint_losses < :suspected_from OR step.sent_at IS NOT NULL)
    FOR NO KEY UPDATE OF step
), place AS MATERIALIZED (
    SELECT slot.key, slot.number FROM slot JOIN due ON slot.key = due.slot_key AND slot.number <= due.slot_limit
    WHERE slot.attempt_id IS NULL
    ORDER BY slot.number
    LIMIT 1
    FOR NO KEY UPDATE OF slot SKIP LOCKED
), placed AS (
    SELECT * FROM due WHERE due.slot_key IS NULL OR EXISTS (SELECT FROM place)
), ticket AS (
    INSERT INTO rate (key, next_at)
    SELECT placed.rate_key, now() + placed.spacing FROM placed WHERE placed.lacks_ticket
    ON CONFLICT (key) DO UPDATE SET next_at = greatest(rate.next_at, now()) + (excluded.next_at - now())
    RETURNING next_at
), timed AS (
    SELECT placed.id, asked.at, CASE WHEN placed.lacks_ticket THEN asked.at ELSE placed.ticket_at END AS ticket_at
    FROM placed LEFT JOIN ticket ON true
    CROSS JOIN LATERAL (SELECT greatest(ticket.next_at - placed.rate_burst * placed.spacing, now()) AS at) AS asked
), taken AS (
    UPDATE step
    SET state = 'running', attempts = step.attempts + 1, sent_at = NULL, reason = NULL, ticket_at = timed.ticket_at
    FROM timed
    WHERE step.id = timed.id AND timed.at <= now() + interval '10 milliseconds'
    RETURNING step.id, step.run_id, step.attempts, step.failures, step.losses, step.is_sink, step.timeout_seconds
), begun AS (
    INSERT INTO attempt (id, run_id, step_id, number, state, claim_token, worker, lease_until, started_at, is_stop_requested, due_at)
    SELECT :attempt_id, taken.run_id, taken.id, taken.attempts, 'running', :claim_token, :worker,
           now() + make_interval(secs => :lease_seconds), now(), false, due.not_before
    FROM taken JOIN due ON due.id = taken.id
    RETURNING id
), held AS (
    UPDATE slot SET attempt_id = begun.id, held_since = now()
    FROM place, begun
    WHERE slot.key = place.key AND slot.number = place.number
)
SELECT CASE WHEN taken.id IS NOT NULL THEN NULL WHEN timed.id IS NULL THEN 'slot_busy' ELSE 'rate_limited' END AS refusal,
       now() AS started_at, due.state AS old_state, due.key, due.event_sequence, due.event_head, due.rate_key, timed.at AS until,
       taken.attempts AS number, taken.failures, taken.losses, taken.is_sink, taken.timeout_seconds,
       run.plan_fingerprint, run.vars, run.project, run.directive, run.ancestors,
       run_budget.steps, run_budget.tokens, run_budget.usd_nano, run_budget.active_seconds,
       greatest(shared.active_seconds_used, 0) AS active_seconds_used
FROM due JOIN shared ON shared.run_id = due.run_id JOIN run ON run.id = due.run_id
LEFT JOIN timed ON timed.id = due.id LEFT JOIN taken ON taken.id = due.id
LEFT JOIN run_budget ON run_budget.run_id = due.run_id
