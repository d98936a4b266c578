-- A delivery with what is needed to make its call. A plain read.
-- Parameters: id
SELECT taken.id, taken.webhook_id, taken.type, taken.body, taken.attempts, taken.tries, webhook.url, webhook.salt,
       CASE WHEN webhook.previous_until > now() THEN webhook.previous_salt END AS previous_salt
FROM webhook_delivery AS taken JOIN webhook ON webhook.id = taken.webhook_id
WHERE taken.id = :id
