-- Write edges. Those that leave a decision say which of its labels take them.
-- Parameters: edges (json text: array of {from_step, to_step, labels})
INSERT INTO edge (from_step, to_step, labels)
SELECT from_step, to_step, labels
FROM jsonb_to_recordset(CAST(:edges AS jsonb)) AS fresh (from_step uuid, to_step uuid, labels jsonb)
