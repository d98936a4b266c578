-- The suspect that the others wait for: it runs, or its message is out (find_suspect.sql). No row: the next one is sent.
-- Parameters: suspected_from
SELECT step.run_id, step.key AS step, step.state, run.project FROM step JOIN run ON run.id = step.run_id
WHERE step.joint_losses > 0 AND step.joint_losses >= :suspected_from
  AND (step.state = 'running' OR step.sent_at IS NOT NULL)
ORDER BY step.state = 'running' DESC, step.sent_at
LIMIT 1
