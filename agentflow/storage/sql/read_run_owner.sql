-- Whose a run is: its project, and the directive it was submitted under.
-- Parameters: run_id
SELECT project, directive FROM run WHERE id = :run_id
