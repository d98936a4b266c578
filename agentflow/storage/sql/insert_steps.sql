-- Write the steps of a new run, or those that a foreach makes in one. What a worker performs and that waits for nothing is
-- ready at once; what the engine decides itself is begun by the caller.
-- Parameters: run_id, steps (json text: array of {id, key, position, action, queue, when_rule, is_sink, needs, is_engines,
-- slot_key, slot_limit, rate_key, rate_interval_seconds, rate_burst, parent, item, awaits_turn})
INSERT INTO step (id, run_id, key, position, action, queue, when_rule, is_sink, state, not_before,
                  needs_open, needs_failed, needs_skipped, needs_cancelled, attempts, failures, losses, event_sequence,
                  slot_key, slot_limit, rate_key, rate_interval_seconds, rate_burst, parent, item, awaits_turn)
SELECT fresh.id, :run_id, fresh.key, fresh.position, fresh.action, fresh.queue, fresh.when_rule, fresh.is_sink,
       CASE WHEN fresh.needs = 0 AND NOT fresh.is_engines THEN 'ready' ELSE 'pending' END,
       CASE WHEN fresh.needs = 0 AND NOT fresh.is_engines THEN now() END,
       fresh.needs, 0, 0, 0, 0, 0, 0, 0,
       fresh.slot_key, fresh.slot_limit, fresh.rate_key, fresh.rate_interval_seconds, fresh.rate_burst,
       fresh.parent, fresh.item, fresh.awaits_turn
FROM jsonb_to_recordset(CAST(:steps AS jsonb)) AS fresh (
    id uuid, key text, position integer, action text, queue text, when_rule text, is_sink boolean, needs integer,
    is_engines boolean, slot_key text, slot_limit integer, rate_key text, rate_interval_seconds double precision,
    rate_burst integer, parent text, item integer, awaits_turn boolean)
