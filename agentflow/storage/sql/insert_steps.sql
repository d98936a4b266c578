-- Write the steps of a new run; those without needs are ready at once.
-- Parameters: run_id, steps (json text: array of {id, key, position, action, queue, when_rule, is_sink, needs,
-- slot_key, slot_limit, rate_key, rate_interval_seconds, rate_burst})
INSERT INTO step (id, run_id, key, position, action, queue, when_rule, is_sink, state, not_before,
                  needs_open, needs_failed, needs_skipped, needs_cancelled, attempts, failures, losses, event_sequence,
                  slot_key, slot_limit, rate_key, rate_interval_seconds, rate_burst)
SELECT fresh.id, :run_id, fresh.key, fresh.position, fresh.action, fresh.queue, fresh.when_rule, fresh.is_sink,
       CASE WHEN fresh.needs = 0 THEN 'ready' ELSE 'pending' END,
       CASE WHEN fresh.needs = 0 THEN now() END,
       fresh.needs, 0, 0, 0, 0, 0, 0, 0,
       fresh.slot_key, fresh.slot_limit, fresh.rate_key, fresh.rate_interval_seconds, fresh.rate_burst
FROM jsonb_to_recordset(CAST(:steps AS jsonb)) AS fresh (
    id uuid, key text, position integer, action text, queue text, when_rule text, is_sink boolean, needs integer,
    slot_key text, slot_limit integer, rate_key text, rate_interval_seconds double precision, rate_burst integer)
