-- Take due deliveries, of each webhook only so many, so that one that hangs leaves room for the others.
-- Parameters: under_way (the webhook of each call that is under way), each, limit, lease_seconds
-- Keeps true: two that claim at once get different ones; what is not settled before the lease ends is due again.
-- Materialised: a plan that asked the part with the locks again for each row would take more than the limit.
WITH due AS MATERIALIZED (
    SELECT one.id
    FROM webhook AS told CROSS JOIN LATERAL (
        SELECT delivery.id FROM webhook_delivery AS delivery
        WHERE delivery.webhook_id = told.id AND delivery.state = 'pending' AND delivery.next_at <= now()
        ORDER BY delivery.next_at
        LIMIT greatest(:each - cardinality(array_positions(CAST(:under_way AS text[]), told.id)), 0)
        FOR UPDATE SKIP LOCKED
    ) AS one
    WHERE told.disabled_at IS NULL
    LIMIT :limit
)
UPDATE webhook_delivery AS taken
SET attempts = attempts + 1, tries = tries + 1,
    next_at = now() + make_interval(secs => CAST(:lease_seconds AS double precision))
FROM webhook, due
WHERE webhook.id = taken.webhook_id AND taken.id = due.id
RETURNING taken.id, taken.webhook_id, taken.type, taken.body, taken.attempts, taken.tries, webhook.url, webhook.salt,
          CASE WHEN webhook.previous_until > now() THEN webhook.previous_salt END AS previous_salt
