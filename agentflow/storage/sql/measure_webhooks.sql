-- How webhooks stand: working, failing (no delivery goes well) or disabled, for how long the oldest failing one has, and
-- how many deliveries are still to be made.
SELECT CASE WHEN disabled_at IS NOT NULL THEN 'disabled' WHEN failing_since IS NOT NULL THEN 'failing' ELSE 'working' END AS state,
       count(*) AS webhooks,
       CAST(coalesce(extract(epoch FROM now() - min(failing_since) FILTER (WHERE disabled_at IS NULL)), 0) AS double precision) AS failing_seconds,
       CAST(coalesce(sum((SELECT count(*) FROM webhook_delivery WHERE webhook_id = webhook.id AND webhook_delivery.state = 'pending')), 0) AS bigint) AS pending
FROM webhook
GROUP BY 1
