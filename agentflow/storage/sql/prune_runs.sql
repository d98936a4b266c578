-- Take ended runs out with all their rows and events; their tombstones stay and their usage is folded (migration 0003).
-- Parameters: run_ids, actor. The caller holds the runs.
SELECT buried.run_id, buried.project, buried.plan_name, buried.plan_fingerprint, buried.state, buried.created_at,
       buried.ended_at, buried.round, buried.seal, buried.event_count, buried.event_head, buried.input_tokens,
       buried.output_tokens, buried.usd_nano, buried.pruned_by, buried.pruned_at
FROM unnest(CAST(:run_ids AS uuid[])) WITH ORDINALITY AS asked (id, place),
     LATERAL prune_run(asked.id, :actor) AS buried
ORDER BY asked.place
