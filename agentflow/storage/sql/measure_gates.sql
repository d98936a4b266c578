-- The gates that wait for a decision, by kind, and for how long the oldest has.
SELECT kind, count(*) AS waiting, CAST(extract(epoch FROM now() - min(opened_at)) AS double precision) AS oldest_seconds
FROM gate WHERE state = 'open'
GROUP BY kind
