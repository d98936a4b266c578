-- Which schedules are due, which have firings to decide about or to start, and in how many seconds the next is due.
-- Parameters: limit
-- A plain read of two partial indexes; whoever acts looks again under the lock.
SELECT ARRAY(
           SELECT id FROM schedule WHERE is_enabled AND fire_at <= now() ORDER BY fire_at LIMIT :limit) AS due,
       ARRAY(
           SELECT DISTINCT schedule_id FROM firing WHERE state IN ('due', 'queued', 'starting')) AS open,
       (SELECT extract(epoch FROM min(fire_at) - now())
        FROM schedule WHERE is_enabled AND fire_at > now()) AS seconds
