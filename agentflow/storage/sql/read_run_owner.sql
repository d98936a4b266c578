-- Whose a run is: its project, the directive it was submitted under, and the runs above it.
-- Parameters: run_id
SELECT project, directive, ancestors FROM run WHERE id = :run_id
