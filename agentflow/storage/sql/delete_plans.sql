-- Delete those plans that no run and no stored plan uses. The caller holds them, since an earlier statement: nobody can
-- begin to use one meanwhile, and whoever had begun before is seen.
-- Parameters: fingerprints
DELETE FROM plan
WHERE fingerprint = ANY(CAST(:fingerprints AS text[]))
  AND NOT EXISTS (SELECT FROM run WHERE run.plan_fingerprint = plan.fingerprint)
  AND NOT EXISTS (SELECT FROM stored_plan WHERE stored_plan.fingerprint = plan.fingerprint)
RETURNING fingerprint
