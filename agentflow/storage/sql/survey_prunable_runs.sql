-- What a pruning would take: how many runs, when the first and the last of them ended, what their artifacts hold. Child runs
-- go with the runs above them, and not before.
-- Parameters: older_than_seconds, limit (null: all)
WITH prunable AS (
    SELECT run_id, ended_at FROM run_state
    WHERE ended_at < now() - make_interval(secs => :older_than_seconds)
      AND NOT EXISTS (
          SELECT FROM firing WHERE firing.run_id = run_state.run_id AND firing.state IN ('due', 'queued', 'starting'))
      AND NOT EXISTS (SELECT FROM tombstone WHERE tombstone.run_id = run_state.run_id)
      AND NOT EXISTS (
          SELECT FROM run, jsonb_array_elements_text(run.ancestors) AS ancestor (id)
          JOIN run_state AS above ON above.run_id = CAST(ancestor.id AS uuid)
          WHERE run.id = run_state.run_id
            AND (above.ended_at IS NULL OR above.ended_at >= now() - make_interval(secs => :older_than_seconds)))
    ORDER BY ended_at
    LIMIT CAST(:limit AS bigint)
)
SELECT count(*) AS runs, min(ended_at) AS first_ended_at, max(ended_at) AS last_ended_at,
       coalesce((SELECT sum(artifact.bytes) FROM artifact JOIN step ON step.id = artifact.step_id
                 WHERE step.run_id IN (SELECT run_id FROM prunable)), 0) AS artifact_bytes
FROM prunable
