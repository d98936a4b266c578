-- A run as surfaces show it with its steps, attempts, calls, artifacts and edges, all of one moment. One statement, for
-- the way to Postgres and back costs more than what is read; each list is JSON, its values in the order of the names here.
-- Each list is read by itself: a fresh run has no statistics yet, and of joins over all its steps the planner would make
-- a loop in a loop.
-- Parameters: run_id
SELECT run.id, run.project, run.actor, run.created_at, run.plan_fingerprint, plan.name AS plan_name,
       standing.state, standing.reason, standing.round, standing.started_at, standing.ended_at, now() AS read_at,
       standing.exhausted, standing.paused,
       run.forked_from, run.forked_at_step, run.parent_run, run.parent_step,
       ARRAY(SELECT fork.id FROM run AS fork WHERE fork.forked_from = run.id ORDER BY fork.created_at, fork.id) AS forks,
       (SELECT jsonb_agg(jsonb_build_object('run', child.id, 'step', child.parent_step) ORDER BY child.created_at, child.id)
        FROM run AS child WHERE child.parent_run = run.id) AS children,
       EXISTS (SELECT FROM run_budget WHERE run_budget.run_id = run.id) AS has_budget,
       (SELECT count(*) FROM audit_event WHERE audit_event.run_id = run.id) AS events,
       (SELECT json_agg(json_build_array(step.id, step.key, step.action, step.state, step.reason, step.result, step.choice,
                   step.attempts, step.children, step.parent, step.item) ORDER BY step.position)
        FROM step WHERE step.run_id = run.id) AS steps,
       (SELECT json_agg(json_build_array(attempt.step_id, attempt.id, attempt.number, attempt.state, attempt.worker,
                   attempt.started_at, attempt.ended_at, attempt.exit_code, attempt.signal, attempt.reason,
                   attempt.retry_at) ORDER BY attempt.number)
        FROM attempt WHERE attempt.run_id = run.id) AS attempts,
       (SELECT json_agg(json_build_array(call.attempt_id, call.provider, call.model, call.input_tokens, call.output_tokens,
                   call.cached_tokens, call.reasoning_tokens, call.usd_nano, call.is_estimated, call.finish_reason,
                   call.problem, call.duration_seconds))
        FROM llm_call AS call WHERE call.run_id = run.id) AS calls,
       (SELECT json_agg(json_build_array(attempt.step_id, attempt.number, artifact.name, artifact.kind, artifact.bytes,
                   artifact.bytes_seen, artifact.sha256, artifact.media_type, artifact.is_cut)
                   ORDER BY array_position(ARRAY['stdout', 'stderr'], artifact.kind), artifact.name)
        FROM attempt JOIN artifact ON artifact.attempt_id = attempt.id WHERE attempt.run_id = run.id) AS artifacts,
       (SELECT json_agg(json_build_array(edge.to_step, edge.from_step))
        FROM step JOIN edge ON edge.to_step = step.id WHERE step.run_id = run.id) AS edges
FROM run
JOIN run_state AS standing ON standing.run_id = run.id
JOIN plan ON plan.fingerprint = run.plan_fingerprint
WHERE run.id = :run_id
