-- The deliveries of a webhook, the newest first. A plain read.
-- Parameters: webhook_id, state (null: all), id (null: all), before_at and before_id (null: from the newest on), limit
SELECT delivery.id, webhook.name AS webhook, delivery.type, delivery.state, delivery.run_id, delivery.event_id,
       delivery.attempts, delivery.created_at, delivery.next_at, delivery.last_at, delivery.last_status,
       delivery.duration_seconds, delivery.problem
FROM webhook_delivery AS delivery JOIN webhook ON webhook.id = delivery.webhook_id
WHERE delivery.webhook_id = :webhook_id
  AND (CAST(:state AS text) IS NULL OR delivery.state = CAST(:state AS text))
  AND (CAST(:id AS uuid) IS NULL OR delivery.id = CAST(:id AS uuid))
  AND (CAST(:before_at AS timestamptz) IS NULL
       OR (delivery.created_at, delivery.id) < (CAST(:before_at AS timestamptz), CAST(:before_id AS uuid)))
ORDER BY delivery.created_at DESC, delivery.id DESC
LIMIT :limit
