-- The plans of a name. Asked for by itself: of a list that it knows the planner can tell how many runs have such a plan.
-- Parameters: name
SELECT fingerprint FROM plan WHERE name = :name
