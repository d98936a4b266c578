-- Open gates of a run, or write down those that decided themselves. The caller holds the run alone.
-- Parameters: run_id, gates (json text: array of {id, step_id, kind, state, round, terms, facts, expires_at (or null)})
-- Keeps true: a step opens one gate a round, and an open one of an earlier round is withdrawn then.
WITH fresh AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(CAST(:gates AS jsonb)) AS fresh (
        id uuid, step_id uuid, kind text, state text, round integer, terms jsonb, facts jsonb, expires_at timestamptz)
), before AS (
    UPDATE gate SET state = 'withdrawn', decided_at = now()
    WHERE step_id IN (SELECT step_id FROM fresh) AND state = 'open'
)
INSERT INTO gate (id, run_id, step_id, kind, state, round, terms, facts, plan_fingerprint, expires_at, decided_at)
SELECT fresh.id, run.id, fresh.step_id, fresh.kind, fresh.state, fresh.round, fresh.terms, fresh.facts, run.plan_fingerprint,
       fresh.expires_at, CASE WHEN fresh.state = 'open' THEN NULL ELSE now() END
FROM fresh, run WHERE run.id = :run_id
