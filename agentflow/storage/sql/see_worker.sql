-- Note what a worker serves and that it was heard of just now.
-- Parameters: name, pid, version, pool, concurrency, queues (json text), up_seconds, consumed, consumed_seconds_ago (null:
-- it never took a message), is_draining, cpu_seconds, resident_bytes (null: the system does not tell)
-- Keeps true: every time is the database's. A worker that was started anew under its name, also under the same process id,
-- has a new start; one that only tells anew keeps its own (its up_seconds and the clock may differ by a little).
INSERT INTO worker (name, pid, version, pool, concurrency, queues, started_at, seen_at, consumed, consumed_at, is_draining,
                    cpu_seconds, resident_bytes)
VALUES (:name, :pid, :version, :pool, :concurrency, CAST(:queues AS jsonb), now() - make_interval(secs => :up_seconds), now(),
        :consumed, now() - make_interval(secs => CAST(:consumed_seconds_ago AS double precision)), :is_draining,
        :cpu_seconds, :resident_bytes)
ON CONFLICT (name) DO UPDATE
SET pid = excluded.pid, version = excluded.version, pool = excluded.pool, concurrency = excluded.concurrency,
    queues = excluded.queues, seen_at = excluded.seen_at, consumed = excluded.consumed, consumed_at = excluded.consumed_at,
    is_draining = excluded.is_draining, cpu_seconds = excluded.cpu_seconds, resident_bytes = excluded.resident_bytes,
    ended_at = NULL,
    started_at = CASE
        WHEN worker.pid = excluded.pid AND abs(extract(epoch FROM worker.started_at - excluded.started_at)) < 5
        THEN worker.started_at ELSE excluded.started_at END
