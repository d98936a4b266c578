-- How long a run was active, over all its rounds: from its start to its end or to now, without the time in which it rested.
-- Parameters: run_id
SELECT greatest(0, coalesce(
    extract(epoch FROM coalesce(rests_since, ended_at, now()) - started_at) - rested_seconds, 0)) AS active_seconds
FROM run_state WHERE run_id = :run_id
