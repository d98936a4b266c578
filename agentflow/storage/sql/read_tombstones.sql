-- Every tombstone, batch by batch.
SELECT run_id, project, plan_name, plan_fingerprint, state, created_at, ended_at, round, seal, event_count, event_head,
       input_tokens, output_tokens, usd_nano, pruned_by, pruned_at
FROM tombstone ORDER BY pruned_at, run_id
