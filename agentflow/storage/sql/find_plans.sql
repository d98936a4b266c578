-- Plans of a project, run or pushed in it, whose fingerprint begins like this, the newest first. A plain read.
-- Parameters: prefix (hex digits), project, limit
SELECT fingerprint FROM plan
WHERE fingerprint >= :prefix AND fingerprint < :prefix || 'g'
  AND (EXISTS (SELECT 1 FROM run WHERE run.plan_fingerprint = plan.fingerprint AND run.project = :project)
       OR EXISTS (SELECT 1 FROM stored_plan AS stored
                  WHERE stored.fingerprint = plan.fingerprint AND stored.project = :project))
ORDER BY created_at DESC
LIMIT :limit
