-- Let steps of a run that is being made as a fork stand as they ended in its origin: what succeeded with one attempt, and its files.
-- Parameters: run_id, reused (json text: array of {step_id, attempt_id, claim_token, worker, started_at, ended_at, exit_code, signal,
-- has_result, result, choice, state, reason, count, succeeded, failed, skipped, cancelled, untaken (of a foreach: its items), artifacts: array of {name, kind, bytes, bytes_seen, sha256, media_type, is_cut}})
-- What the engine decided itself has no attempt (attempt_id null), here and there.
-- The rows are found by their ids, and not among those of the run (IS TRUE), of which Postgres knows no number yet.
-- Keeps true: nothing is reserved and no call is written, so that the new run's budgets count none of it; the attempt says
-- by its reason that it was taken over.
WITH reused AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:reused AS jsonb)) AS taken (
        step_id uuid, attempt_id uuid, claim_token uuid, worker text, started_at timestamptz, ended_at timestamptz,
        exit_code integer, signal integer, has_result boolean, result jsonb, choice text, state text,
        reason jsonb, count integer, succeeded integer, failed integer, skipped integer, cancelled integer, untaken integer, artifacts jsonb)
), tried AS (
    INSERT INTO attempt (id, run_id, step_id, number, state, claim_token, worker, lease_until, started_at, ended_at,
                         is_stop_requested, exit_code, signal, reason)
    SELECT attempt_id, :run_id, step_id, 1, 'succeeded', claim_token, worker, ended_at, started_at, ended_at,
           false, exit_code, signal, reason
    FROM reused WHERE attempt_id IS NOT NULL
), kept AS (
    INSERT INTO artifact (attempt_id, run_id, step_id, name, kind, bytes, bytes_seen, sha256, media_type, is_cut)
    SELECT reused.attempt_id, :run_id, reused.step_id, made.name, made.kind, made.bytes, made.bytes_seen, made.sha256,
           made.media_type, made.is_cut
    FROM reused, jsonb_to_recordset(reused.artifacts) AS made (
        name text, kind text, bytes bigint, bytes_seen bigint, sha256 text, media_type text, is_cut boolean)
)
UPDATE step
SET state = reused.state, reason = reused.reason, exit_code = reused.exit_code,
    result = CASE WHEN reused.has_result THEN coalesce(reused.result, 'null') END,
    choice = reused.choice, attempts = (reused.attempt_id IS NOT NULL)::integer, needs_open = 0, not_before = NULL, sent_at = NULL,
    awaits_turn = false, children = reused.count, released = reused.count, needs_succeeded = coalesce(reused.succeeded, 0),
    needs_failed = coalesce(reused.failed, 0), needs_skipped = coalesce(reused.skipped, 0),
    needs_cancelled = coalesce(reused.cancelled, 0), needs_untaken = coalesce(reused.untaken, 0)
FROM reused
WHERE step.id = reused.step_id AND (step.run_id = :run_id) IS TRUE AND step.state IN ('pending', 'ready') AND step.attempts = 0
RETURNING step.id
