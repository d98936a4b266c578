-- Which schedules are due, which have firings to decide about or to start, which have some that wait, and in how many
-- seconds the next is due.
-- Parameters: limit, after_open, after_waiting
-- Keeps true: each list is bounded and in turn: whoever asks goes on behind the last of the answer before.
-- A plain read of two partial indexes; whoever acts looks again under the lock.
SELECT ARRAY(
           SELECT id FROM schedule WHERE is_enabled AND fire_at <= now() ORDER BY fire_at LIMIT :limit) AS due,
       ARRAY(
           SELECT DISTINCT schedule_id FROM firing WHERE state IN ('due', 'starting') AND schedule_id > :after_open
           ORDER BY schedule_id LIMIT :limit) AS open,
       ARRAY(
           SELECT DISTINCT schedule_id FROM firing WHERE state = 'queued' AND schedule_id > :after_waiting
           ORDER BY schedule_id LIMIT :limit) AS waiting,
       (SELECT extract(epoch FROM min(fire_at) - now())
        FROM schedule WHERE is_enabled AND fire_at > now()) AS seconds
