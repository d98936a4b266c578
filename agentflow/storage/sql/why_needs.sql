-- What the pending steps of a run need. By ids, since the rows are at hand: of two joins over all steps the planner would
-- make a loop in a loop.
-- Parameters: run_id
SELECT edge.to_step, edge.from_step FROM step JOIN edge ON edge.to_step = step.id
WHERE step.run_id = :run_id AND step.state = 'pending'
