-- Runs that ended long enough ago, the oldest first; a plain read, whoever prunes looks again under the lock.
-- Parameters: older_than_seconds, except_ids, limit
-- Not those of a firing of a schedule that is still open: what comes next may be decided by how its run stands. Nor one that
-- was restored after it was pruned: it has a tombstone. A child run goes with the run above it (find_runs_below.sql).
SELECT run_id FROM run_state
WHERE ended_at < now() - make_interval(secs => :older_than_seconds)
  AND NOT EXISTS (
      SELECT FROM firing WHERE firing.run_id = run_state.run_id AND firing.state IN ('due', 'queued', 'starting'))
  AND NOT EXISTS (SELECT FROM tombstone WHERE tombstone.run_id = run_state.run_id)
  AND run_id <> ALL(CAST(:except_ids AS uuid[]))
  AND NOT EXISTS (SELECT FROM run JOIN run AS parent ON parent.id = run.parent_run WHERE run.id = run_state.run_id)
ORDER BY ended_at
LIMIT :limit
