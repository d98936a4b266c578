-- The gates of a run in the order in which they were opened, each with what was said to it. Of what was filled in, the
-- names of the fields.
-- Parameters: run_id
SELECT step.key, gate.kind, gate.state, gate.round, gate.terms, gate.plan_fingerprint, gate.opened_at, gate.expires_at,
       gate.is_escalated, gate.decided_at,
       ARRAY(SELECT jsonb_build_array(said.actor, said.verdict, said.at, said.why,
                                      (SELECT jsonb_agg(name ORDER BY name) FROM jsonb_object_keys(said.given) AS name))
             FROM gate_decision AS said WHERE said.gate_id = gate.id ORDER BY said.at, said.actor) AS decisions
FROM gate JOIN step ON step.id = gate.step_id
WHERE gate.run_id = :run_id
ORDER BY gate.opened_at, step.position
