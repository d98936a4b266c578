-- Jobs, the newest first.
-- Parameters: id (null: all), kind (null: any), lost_seconds
-- Keeps true: one whose process gave no sign for too long does not look as if it went on.
SELECT id, kind, asked_by, begun_at, beaten_at, ended_at, done, total, result, problem,
       CASE WHEN state = 'running' AND beaten_at < now() - make_interval(secs => :lost_seconds) THEN 'lost'
            ELSE state END AS state
FROM job
WHERE (CAST(:id AS uuid) IS NULL OR id = CAST(:id AS uuid))
  AND (CAST(:kind AS text) IS NULL OR kind = CAST(:kind AS text))
ORDER BY begun_at DESC, id DESC
