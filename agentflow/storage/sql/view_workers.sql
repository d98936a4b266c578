-- Every worker that was heard of lately, with the attempts that it runs. An attempt names its process as NAME:PID.
-- Parameters: silence_seconds (after which a worker that did not end is taken for gone)
WITH running AS (
    SELECT regexp_replace(attempt.worker, ':[0-9]+$', '') AS worker, count(*) AS attempts,
           jsonb_agg(jsonb_build_object('run', attempt.run_id, 'step', step.key, 'attempt', attempt.number,
                                        'project', (SELECT project FROM run WHERE run.id = attempt.run_id),
                                        'started_at', attempt.started_at, 'lease_until', attempt.lease_until)
                     ORDER BY attempt.started_at, attempt.id) AS work
    FROM attempt JOIN step ON step.id = attempt.step_id
    WHERE attempt.state = 'running'
    GROUP BY 1
)
SELECT worker.name, worker.pid, worker.version, worker.pool, worker.concurrency, worker.queues, worker.started_at,
       worker.seen_at, worker.consumed, worker.consumed_at, worker.is_draining, worker.ended_at,
       worker.cpu_seconds, worker.resident_bytes,
       worker.seen_at >= now() - make_interval(secs => :silence_seconds) AS is_heard,
       coalesce(running.work, '[]'::jsonb) AS work
FROM worker LEFT JOIN running ON running.worker = worker.name
ORDER BY worker.ended_at IS NOT NULL, worker.name
