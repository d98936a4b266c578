-- Give an attempt that begins to call a model the guidance that waits for it, with what its step was given before, the oldest first.
-- Parameters: run_id, step_id, attempt_id, keys (the step's name, and its id in the plan)
-- Keeps true: guidance is one step's until that has ended, and waits again if no model has answered the step since. Of two that begin at
-- once one gets it (rows are locked in order and looked at again).
WITH waiting AS (
    SELECT id FROM guidance
    WHERE run_id = :run_id AND (step_key IS NULL OR step_key = ANY(CAST(:keys AS text[])))
      AND (taken_by IS NULL OR EXISTS (
          SELECT FROM attempt AS taker JOIN step ON step.id = taker.step_id
          WHERE taker.id = guidance.taken_by AND step.state IN ('succeeded', 'failed', 'skipped', 'cancelled')
            AND NOT EXISTS (
                SELECT FROM attempt AS since JOIN llm_call ON llm_call.attempt_id = since.id
                WHERE since.step_id = taker.step_id AND since.number >= taker.number AND llm_call.answer_sha256 IS NOT NULL)))
    ORDER BY id FOR UPDATE
), taken AS (
    UPDATE guidance SET taken_by = :attempt_id FROM waiting WHERE guidance.id = waiting.id RETURNING guidance.id, guidance.sha256
)
SELECT id, sha256 FROM taken
UNION ALL
SELECT guidance.id, guidance.sha256
FROM guidance JOIN attempt AS taker ON taker.id = guidance.taken_by
WHERE guidance.run_id = :run_id AND taker.step_id = :step_id
ORDER BY id
