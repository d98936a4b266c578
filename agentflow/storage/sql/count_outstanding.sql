-- Doorbells on their way, by queue.
SELECT queue, count(*) AS outstanding FROM step
WHERE state IN ('ready', 'retrying') AND sent_at IS NOT NULL
GROUP BY queue
