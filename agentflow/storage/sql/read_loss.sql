-- Under which circumstances an attempt is lost: its worker, whether that was being stopped, and who went with it. A plain read.
-- Parameters: attempt_id, lease_seconds, suspected_from
-- A worker's name is what stands before the last colon, the process follows. A living worker extends every lease each
-- quarter of its length; so the leases of all that goes with a worker end within a quarter of each other, for which a
-- half is taken, and those of a living one end later. A lease that was not over when its attempt was lost (its pool child
-- died alone) is nobody's company. Who was a suspect when it was lost is told by its reason, for its step may have
-- become one since.
WITH lost AS MATERIALIZED (
    SELECT attempt.worker, regexp_replace(attempt.worker, ':[^:]*$', '') AS name, attempt.step_id, attempt.started_at,
           attempt.lease_until - make_interval(secs => :lease_seconds / 2.0) AS earliest,
           attempt.lease_until + make_interval(secs => :lease_seconds / 2.0) AS latest
    FROM attempt WHERE attempt.id = :attempt_id
), company AS (
    SELECT step.joint_losses >= :suspected_from AS is_suspect
    FROM lost JOIN attempt ON regexp_replace(attempt.worker, ':[^:]*$', '') = lost.name
    JOIN step ON step.id = attempt.step_id
    WHERE attempt.state = 'running' AND attempt.step_id <> lost.step_id
      AND attempt.lease_until BETWEEN lost.earliest AND lost.latest
    UNION ALL
    SELECT coalesce(CAST(attempt.reason -> 'detail' ->> 'is_suspected' AS boolean), false)
    FROM lost JOIN attempt ON regexp_replace(attempt.worker, ':[^:]*$', '') = lost.name
    WHERE attempt.state = 'lost' AND attempt.step_id <> lost.step_id AND attempt.ended_at > attempt.lease_until
      AND attempt.lease_until BETWEEN lost.earliest AND lost.latest
)
SELECT lost.worker, step.joint_losses, count(company.is_suspect) AS others,
       count(*) FILTER (WHERE company.is_suspect) AS suspects,
       EXISTS (SELECT FROM worker WHERE worker.name = lost.name AND worker.is_draining AND worker.started_at <= lost.started_at)
           AS is_stopping
FROM lost JOIN step ON step.id = lost.step_id LEFT JOIN company ON true
GROUP BY lost.worker, lost.name, lost.started_at, step.joint_losses
