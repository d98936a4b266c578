-- How many doorbells are out of steps that are to ask a rate for a ticket, by queue and key; the same as in stamp_due.sql.
SELECT queue, rate_key, count(*) AS steps FROM step
WHERE state IN ('ready', 'retrying') AND slot_key IS NULL AND rate_key IS NOT NULL
  AND ticket_at IS NULL AND sent_at IS NOT NULL
GROUP BY queue, rate_key
