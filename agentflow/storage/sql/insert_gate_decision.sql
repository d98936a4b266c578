-- Write down what somebody says to an open gate. The caller holds its run alone.
-- Parameters: gate_id, actor, verdict, why, given (json text or null)
-- Keeps true: each says one thing; who approved may still reject.
INSERT INTO gate_decision (gate_id, actor, verdict, why, given)
VALUES (:gate_id, :actor, :verdict, :why, CAST(:given AS jsonb))
ON CONFLICT (gate_id, actor) DO UPDATE
SET verdict = excluded.verdict, why = excluded.why, given = excluded.given, at = now()
