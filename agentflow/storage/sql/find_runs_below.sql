-- All runs below some, at any depth.
-- Parameters: run_ids
SELECT DISTINCT run.id FROM unnest(CAST(:run_ids AS uuid[])) AS above (id)
JOIN run ON run.ancestors IS NOT NULL AND run.ancestors ? CAST(above.id AS text)
ORDER BY run.id
