-- Take a step for one attempt.
-- Parameters: run_id, step_id, attempt_id, claim_token, worker, lease_seconds
-- Keeps true: the run is running, does not rest, and cannot begin to fail, rest or cancel before this commits (its row is shared);
-- the step is due; no other claim gets the same step (the row is updated, and attempt_one_running stands behind it).
-- Whoever waits for the run alone is not passed (see the gate in lock_run.sql).
-- No row back: the claim was refused; explain_claim.sql tells why.
WITH gate AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(hashtextextended(CAST(:run_id AS text), 0))
), shared AS (
    SELECT run_id, coalesce(extract(epoch FROM now() - started_at), 0) - rested_seconds AS active_seconds_used
    FROM run_state, gate
    WHERE run_id = :run_id AND state = 'running' AND exhausted IS NULL
    FOR SHARE OF run_state
), due AS (
    SELECT step.id, step.state FROM step JOIN shared ON shared.run_id = step.run_id
    WHERE step.id = :step_id AND step.state IN ('ready', 'retrying') AND step.not_before <= now()
    FOR NO KEY UPDATE OF step
), taken AS (
    UPDATE step
    SET state = 'running', attempts = step.attempts + 1, sent_at = NULL, reason = NULL
    FROM due
    WHERE step.id = due.id
    RETURNING due.state AS old_state, step.id, step.run_id, step.key, step.attempts, step.failures, step.losses, step.is_sink, step.event_sequence, step.event_head
), begun AS (
    INSERT INTO attempt (id, run_id, step_id, number, state, claim_token, worker, lease_until, started_at, is_stop_requested)
    SELECT :attempt_id, taken.run_id, taken.id, taken.attempts, 'running', :claim_token, :worker,
           now() + make_interval(secs => :lease_seconds), now(), false
    FROM taken
    RETURNING step_id, started_at
)
SELECT taken.old_state, taken.key, taken.attempts AS number, taken.failures, taken.losses, taken.is_sink, taken.event_sequence, taken.event_head,
       begun.started_at, run.plan_fingerprint, run.vars, run.project, run.directive,
       run_budget.steps, run_budget.tokens, run_budget.usd_nano, run_budget.active_seconds,
       greatest(shared.active_seconds_used, 0) AS active_seconds_used
FROM taken JOIN begun ON begun.step_id = taken.id JOIN shared ON shared.run_id = taken.run_id
JOIN run ON run.id = taken.run_id LEFT JOIN run_budget ON run_budget.run_id = taken.run_id
