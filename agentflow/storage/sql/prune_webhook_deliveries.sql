-- Forget deliveries that have ended long ago, and of each webhook all but the newest; a batch of them.
-- Parameters: age_seconds, keep, limit
DELETE FROM webhook_delivery WHERE id IN (
    SELECT ended.id
    FROM webhook CROSS JOIN LATERAL (
        SELECT delivery.id, delivery.created_at, row_number() OVER (ORDER BY delivery.created_at DESC) AS place
        FROM webhook_delivery AS delivery
        WHERE delivery.webhook_id = webhook.id AND delivery.state <> 'pending'
    ) AS ended
    WHERE ended.place > :keep
       OR ended.created_at < now() - make_interval(secs => CAST(:age_seconds AS double precision))
    LIMIT :limit
)
