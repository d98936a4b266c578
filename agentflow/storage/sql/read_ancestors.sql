-- The caps of runs above a run, and how long each was active, without the time in which it rested.
-- Parameters: run_ids
SELECT run_state.run_id, run_budget.steps, run_budget.tokens, run_budget.usd_nano, run_budget.active_seconds,
       greatest(0, coalesce(extract(epoch FROM coalesce(run_state.rests_since, run_state.ended_at, now()) - run_state.started_at)
           - run_state.rested_seconds, 0)) AS active_seconds_used
FROM run_state LEFT JOIN run_budget ON run_budget.run_id = run_state.run_id
WHERE run_state.run_id = ANY(CAST(:run_ids AS uuid[]))
