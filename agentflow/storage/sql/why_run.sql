-- What of a run itself may keep its steps from starting (claim_step.sql), and who led the dispatchers last.
-- Parameters: run_id, service
SELECT now() AS now, standing.state, standing.reason, standing.paused, standing.exhausted, installation.maintenance,
       (SELECT jsonb_object_agg(tally.state, tally.steps)
        FROM (SELECT state, count(*) AS steps FROM step WHERE run_id = :run_id GROUP BY state) AS tally) AS tally,
       leader.holder, leader.term, leader.expires_at, leader.expires_at > now() AS is_leading
FROM run_state AS standing
LEFT JOIN installation ON true
LEFT JOIN leader ON leader.service = :service
WHERE standing.run_id = :run_id
