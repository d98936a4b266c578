-- What the list of the founding paths tells of runs beside their summaries: the goal, how far they came, what they used.
-- Parameters: run_ids (uuid[]), goal (the name of a var)
-- As whole_run.py reads it of one run: tokens are those of the runs below it too, and a gate of its own is open whatever
-- its step does, one of a run below it only while it waits for a decision.
SELECT run.id, run.vars -> :goal AS goal, run_budget.tokens AS token_cap,
       (SELECT count(*) FROM step
        WHERE step.run_id = run.id AND step.state IN ('succeeded', 'failed', 'skipped', 'cancelled')) AS finished,
       EXISTS (SELECT FROM attempt WHERE attempt.run_id = run.id) AS has_begun,
       EXISTS (SELECT FROM gate WHERE gate.run_id = run.id AND gate.state = 'open')
           OR EXISTS (SELECT FROM run AS below
                      JOIN gate ON gate.run_id = below.id
                      JOIN step ON step.id = gate.step_id
                      JOIN run_state AS standing ON standing.run_id = below.id
                      WHERE below.ancestors IS NOT NULL AND below.ancestors ? CAST(run.id AS text)
                          AND gate.state = 'open' AND step.state = 'held' AND standing.state = 'running') AS has_open_gate,
       (SELECT CAST(least(coalesce(sum(CAST(call.input_tokens AS numeric) + call.output_tokens), 0), 9007199254740991) AS bigint)
        FROM llm_call AS call
        WHERE call.run_id = ANY(ARRAY(
            SELECT run.id
            UNION ALL
            SELECT below.id FROM run AS below
            WHERE below.ancestors IS NOT NULL AND below.ancestors ? CAST(run.id AS text)))) AS tokens
FROM run
LEFT JOIN run_budget ON run_budget.run_id = run.id
WHERE run.id = ANY(CAST(:run_ids AS uuid[]))
