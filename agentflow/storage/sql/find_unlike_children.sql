-- Child runs that do not rest as the run above them does: it was paused and they were not (or less hard), or it goes on and
-- they are still paused through it. What a crash left; a maintenance pauses every run itself. A plain read.
-- Parameters: limit
SELECT run.id AS run_id, parent.paused IS NOT NULL AS is_to_pause FROM run
JOIN run_state ON run_state.run_id = run.id
JOIN run_state AS parent ON parent.run_id = run.parent_run
WHERE run.parent_run IS NOT NULL AND run_state.state = 'running' AND parent.state = 'running'
  AND CASE WHEN parent.paused IS NULL THEN run_state.paused ->> 'scope' = 'parent'
      ELSE parent.paused ->> 'scope' <> 'maintenance' AND (run_state.paused IS NULL
           OR CAST(parent.paused ->> 'is_hard' AS boolean) AND NOT CAST(run_state.paused ->> 'is_hard' AS boolean)) END
ORDER BY run.id
LIMIT :limit
