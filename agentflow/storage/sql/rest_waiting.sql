-- Count as rest the time in which a run waited for people only, up to now. The caller holds it alone, and is about to
-- let something of it move, or to let it rest.
-- Parameters: run_id, person_codes (text[]: why steps are held that wait for a person)
-- Keeps true: what was counted as rest before (up to rested_until), or is being counted (rests_since), is not counted
-- again. The wait began when the last attempt had ended and the last of the gates had opened.
UPDATE run_state
SET rested_seconds = rested_seconds + greatest(0, coalesce(extract(epoch FROM now() - greatest(
        rested_until, started_at,
        (SELECT max(attempt.ended_at) FROM attempt WHERE attempt.run_id = :run_id),
        (SELECT max(gate.opened_at) FROM gate WHERE gate.run_id = :run_id))), 0)),
    rested_until = now()
WHERE run_id = :run_id AND state IN ('running') AND rests_since IS NULL AND started_at IS NOT NULL
  AND EXISTS (SELECT FROM step WHERE step.run_id = :run_id AND step.state IN ('held')
                  AND coalesce(step.reason ->> 'code', '') = ANY(CAST(:person_codes AS text[])))
  AND NOT EXISTS (SELECT FROM step WHERE step.run_id = :run_id AND (step.state IN ('ready', 'running', 'retrying')
                  OR step.state IN ('held') AND coalesce(step.reason ->> 'code', '') <> ALL(CAST(:person_codes AS text[]))))
