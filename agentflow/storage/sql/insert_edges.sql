-- Write the edges of a new run.
-- Parameters: from_steps, to_steps (arrays of equal length)
INSERT INTO edge (from_step, to_step)
SELECT * FROM unnest(CAST(:from_steps AS uuid[]), CAST(:to_steps AS uuid[]))
