-- Give a step that begins to call a model the guidance that waits for it, with what it was given before, the oldest first.
-- Parameters: run_id, step_id, keys (its name, and its id in the plan)
-- Keeps true: guidance is one step's; of two that begin at once one gets it (rows are locked in order and looked at again).
WITH waiting AS (
    SELECT id FROM guidance
    WHERE run_id = :run_id AND taken_by IS NULL
      AND (step_key IS NULL OR step_key = ANY(CAST(:keys AS text[])))
    ORDER BY id FOR UPDATE
), taken AS (
    UPDATE guidance SET taken_by = :step_id FROM waiting WHERE guidance.id = waiting.id RETURNING guidance.id, guidance.sha256
)
SELECT id, sha256 FROM taken
UNION ALL
SELECT id, sha256 FROM guidance WHERE run_id = :run_id AND taken_by = :step_id
ORDER BY id
