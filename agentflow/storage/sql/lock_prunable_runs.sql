-- Take ended runs to prune them, but for those that somebody else is at, or that are not old enough any more.
-- Parameters: run_ids, older_than_seconds
-- Keeps true: the pruner waits for nobody: neither at a run's gate (see lock_run.sql) nor for its row. A run that was restored
-- after it was pruned stays, since it has a tombstone; nor does one go that a firing waits for by now, as find_prunable_runs.sql
-- has it.
WITH gate AS MATERIALIZED (
    SELECT asked.id, pg_try_advisory_xact_lock(hashtextextended(CAST(asked.id AS text), 0)) AS is_open
    FROM unnest(CAST(:run_ids AS uuid[])) AS asked (id)
)
SELECT run_state.run_id FROM run_state JOIN gate ON gate.id = run_state.run_id
WHERE gate.is_open AND run_state.ended_at < now() - make_interval(secs => :older_than_seconds)
  AND NOT EXISTS (
      SELECT FROM firing WHERE firing.run_id = run_state.run_id AND firing.state IN ('due', 'queued', 'starting'))
  AND NOT EXISTS (SELECT FROM tombstone WHERE tombstone.run_id = run_state.run_id)
ORDER BY run_state.ended_at
FOR UPDATE OF run_state SKIP LOCKED
