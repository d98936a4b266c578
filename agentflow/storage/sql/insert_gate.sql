-- Open a gate, or write down one that decided itself. The caller holds its run alone.
-- Parameters: id, run_id, step_id, kind, state, round, terms (json text), facts (json text), expires_at (or null)
-- Keeps true: a step opens one gate a round, and an open one of an earlier round is withdrawn then.
WITH before AS (
    UPDATE gate SET state = 'withdrawn', decided_at = now() WHERE step_id = :step_id AND state = 'open'
)
INSERT INTO gate (id, run_id, step_id, kind, state, round, terms, facts, plan_fingerprint, expires_at, decided_at)
SELECT :id, :run_id, :step_id, :kind, :state, :round, CAST(:terms AS jsonb), CAST(:facts AS jsonb), run.plan_fingerprint,
       CAST(:expires_at AS timestamptz), CASE WHEN :state = 'open' THEN NULL ELSE now() END
FROM run WHERE run.id = :run_id
