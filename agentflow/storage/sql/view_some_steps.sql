-- Some steps of a run with their attempts, calls, artifacts and edges, each list as view_whole_run.sql has it.
-- Parameters: step_ids (uuid[])
SELECT (SELECT json_agg(json_build_array(step.id, step.key, step.action, step.state, step.reason, step.result, step.choice,
                   step.attempts, step.children, step.parent, step.item))
        FROM step WHERE step.id = ANY(CAST(:step_ids AS uuid[]))) AS steps,
       (SELECT json_agg(json_build_array(attempt.step_id, attempt.id, attempt.number, attempt.state, attempt.worker,
                   attempt.started_at, attempt.ended_at, attempt.exit_code, attempt.signal, attempt.reason,
                   attempt.retry_at) ORDER BY attempt.number)
        FROM attempt WHERE attempt.step_id = ANY(CAST(:step_ids AS uuid[]))) AS attempts,
       (SELECT json_agg(json_build_array(call.attempt_id, call.provider, call.model, call.input_tokens, call.output_tokens,
                   call.cached_tokens, call.reasoning_tokens, call.usd_nano, call.is_estimated, call.finish_reason,
                   call.problem, call.duration_seconds))
        FROM attempt JOIN llm_call AS call ON call.attempt_id = attempt.id
        WHERE attempt.step_id = ANY(CAST(:step_ids AS uuid[]))) AS calls,
       (SELECT json_agg(json_build_array(attempt.step_id, attempt.number, artifact.name, artifact.kind, artifact.bytes,
                   artifact.bytes_seen, artifact.sha256, artifact.media_type, artifact.is_cut)
                   ORDER BY array_position(ARRAY['stdout', 'stderr'], artifact.kind), artifact.name)
        FROM attempt JOIN artifact ON artifact.attempt_id = attempt.id
        WHERE attempt.step_id = ANY(CAST(:step_ids AS uuid[]))) AS artifacts,
       (SELECT json_agg(json_build_array(edge.to_step, edge.from_step))
        FROM edge WHERE edge.to_step = ANY(CAST(:step_ids AS uuid[]))) AS edges
