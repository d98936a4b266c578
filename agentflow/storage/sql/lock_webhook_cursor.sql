-- Take the place up to which deliveries were made; no row comes back while somebody else makes some.
SELECT event_id FROM webhook_cursor WHERE id = 1 FOR NO KEY UPDATE SKIP LOCKED
