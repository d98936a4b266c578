-- Write down what is said to open gates, by one to each. The caller holds their run alone.
-- Parameters: said (json text: array of {gate_id, actor, verdict, why, given (or null)})
-- Keeps true: each says one thing; who approved may still reject.
INSERT INTO gate_decision (gate_id, actor, verdict, why, given)
SELECT gate_id, actor, verdict, why, given
FROM jsonb_to_recordset(CAST(:said AS jsonb)) AS said (gate_id uuid, actor text, verdict text, why text, given jsonb)
ON CONFLICT (gate_id, actor) DO UPDATE
SET verdict = excluded.verdict, why = excluded.why, given = excluded.given, at = now()
