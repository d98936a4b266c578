-- The newest gate of a step.
-- Parameters: step_id
SELECT gate.id, gate.state, gate.kind, gate.round, gate.terms, gate.facts, gate.plan_fingerprint, gate.opened_at,
       gate.expires_at, gate.is_escalated, gate.decided_at
FROM gate WHERE gate.step_id = :step_id
ORDER BY gate.round DESC LIMIT 1
