-- What a report says of a run beside its summary: whose it is, where its audit stands, its lineage.
-- Parameters: run_id
-- The seal is that of its last end; a run that was taken up again since has one that does not hold for it any more.
SELECT run.directive, run.mode, run.vars, run.parent_run, run.parent_step, standing.checkpoint, standing.event_sequence,
       encode(standing.event_head, 'hex') AS event_head,
       (SELECT count(*) FROM audit_event WHERE audit_event.run_id = run.id) AS events,
       (SELECT event.facts FROM audit_event AS event
        WHERE event.run_id = run.id AND event.step_id IS NULL AND event.action = 'finalize' AND standing.ended_at IS NOT NULL
        ORDER BY event.sequence DESC LIMIT 1) AS ending,
       ARRAY(SELECT child.id FROM run AS child WHERE child.parent_run = run.id ORDER BY child.created_at, child.id) AS children
FROM run JOIN run_state AS standing ON standing.run_id = run.id
WHERE run.id = :run_id
