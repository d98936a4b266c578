-- What was said to gates, the first of each first.
-- Parameters: gate_ids
SELECT gate_id, actor, verdict, why, given, at FROM gate_decision
WHERE gate_id = ANY(CAST(:gate_ids AS uuid[])) ORDER BY at, actor
