-- Which step of a run needs which. Without the names: a fresh run has no statistics yet, and of two joins over all its
-- steps the planner would make a loop in a loop.
-- Parameters: run_id
SELECT edge.to_step, edge.from_step FROM step JOIN edge ON edge.to_step = step.id WHERE step.run_id = :run_id
