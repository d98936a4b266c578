-- Let a webhook be told something, once for each id: who makes the same delivery again makes nothing.
-- Parameters: id, webhook_id, type, run_id, event_id, body, attempts (and tries), wait_seconds (until it is due)
INSERT INTO webhook_delivery (id, webhook_id, type, run_id, event_id, body, state, attempts, tries, next_at)
SELECT :id, webhook.id, :type, CAST(:run_id AS uuid), CAST(:event_id AS bigint), :body, 'pending', :attempts, :attempts,
       now() + make_interval(secs => CAST(:wait_seconds AS double precision))
FROM webhook WHERE webhook.id = :webhook_id
ON CONFLICT (id) DO NOTHING
