-- The tombstones of runs whose id lies in a range: those that begin with a prefix.
-- Parameters: low, high, project (null: any), limit
SELECT run_id, project, plan_name, plan_fingerprint, state, created_at, ended_at, round, seal, event_count, event_head,
       input_tokens, output_tokens, usd_nano, pruned_by, pruned_at
FROM tombstone
WHERE run_id BETWEEN :low AND :high AND (CAST(:project AS text) IS NULL OR project = CAST(:project AS text))
ORDER BY run_id LIMIT :limit
