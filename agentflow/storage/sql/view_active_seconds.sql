-- How long a run was active, over all its rounds: from its start to its end or to now, without the time in which it rested;
-- and how long it rested since its start.
-- Parameters: run_id, person_codes (text[]: why steps are held that wait for a person)
-- Keeps true: a run that waits for people only rests since it began to, as rest_waiting.sql counts it once somebody lets
-- it go on: the figure does not fall then.
WITH waiting AS (
    SELECT greatest(rested_until, started_at,
        (SELECT max(attempt.ended_at) FROM attempt WHERE attempt.run_id = :run_id),
        (SELECT max(gate.opened_at) FROM gate WHERE gate.run_id = :run_id)) AS since
    FROM run_state
    WHERE run_id = :run_id AND state IN ('running') AND rests_since IS NULL AND started_at IS NOT NULL
      AND EXISTS (SELECT FROM step WHERE step.run_id = :run_id AND step.state IN ('held')
                      AND coalesce(step.reason ->> 'code', '') = ANY(CAST(:person_codes AS text[])))
      AND NOT EXISTS (SELECT FROM step WHERE step.run_id = :run_id AND (step.state IN ('ready', 'running', 'retrying')
                      OR step.state IN ('held') AND coalesce(step.reason ->> 'code', '') <> ALL(CAST(:person_codes AS text[]))))
)
SELECT greatest(0, coalesce(
           extract(epoch FROM coalesce(rests_since, ended_at, waiting.since, now()) - started_at) - rested_seconds, 0)) AS active_seconds,
       greatest(0, rested_seconds
           + coalesce(extract(epoch FROM now() - coalesce(rests_since, waiting.since)), 0)) AS rested_seconds
FROM run_state LEFT JOIN waiting ON true
WHERE run_id = :run_id
