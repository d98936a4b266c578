-- Delete firings that were decided long enough ago and whose run, if they had one, is gone; returns how many.
-- Parameters: older_than_seconds, limit
-- Keeps true: what is open stays, and the newest firing of each schedule; nobody is waited for. As long as a run is there, its
-- firing is: which runs of a schedule are active is read from them.
WITH old AS MATERIALIZED (
    SELECT firing.schedule_id, firing.due_at FROM firing
    WHERE firing.noted_at < now() - make_interval(secs => :older_than_seconds)
      AND firing.state NOT IN ('due', 'queued', 'starting')
      AND firing.due_at < (SELECT max(newer.due_at) FROM firing AS newer WHERE newer.schedule_id = firing.schedule_id)
      AND NOT EXISTS (SELECT FROM run_state WHERE run_state.run_id = firing.run_id)
    ORDER BY firing.noted_at
    LIMIT :limit
    FOR UPDATE OF firing SKIP LOCKED
)
DELETE FROM firing USING old WHERE firing.schedule_id = old.schedule_id AND firing.due_at = old.due_at
RETURNING firing.due_at
