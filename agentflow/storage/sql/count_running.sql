-- How many attempts run: of one run and all below it, or of all.
-- Parameters: run_id (null for all)
SELECT count(*) AS running FROM attempt
WHERE state = 'running' AND (CAST(:run_id AS uuid) IS NULL OR run_id = CAST(:run_id AS uuid)
  OR run_id IN (SELECT id FROM run WHERE ancestors IS NOT NULL AND ancestors ? CAST(:run_id AS text)))
