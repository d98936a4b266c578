-- What a directive of a project has used with attempts that began within a time, and what running ones of them have reserved; of one moment.
-- Parameters: project, directive, since, until
-- Keeps true: no sum is beyond what the ledger can count exactly (2^53 - 1); each attempt counts once, as running or as ended. Steps are counted for runs only.
-- What pruned runs used counts on: a folded UTC day counts in the day that its noon lies in, so in one and only one.
WITH spent AS (
    SELECT coalesce(sum(tokens), 0) AS tokens, coalesce(sum(usd_nano), 0) AS usd_nano
    FROM (
        SELECT CAST(input_tokens AS numeric) + output_tokens AS tokens, usd_nano FROM llm_call
        WHERE project = :project AND directive = :directive AND started_at >= CAST(:since AS timestamptz) AND started_at < CAST(:until AS timestamptz)
        UNION ALL
        SELECT CAST(input_tokens AS numeric) + output_tokens, usd_nano FROM folded_usage
        WHERE project = :project AND directive = :directive AND (day + time '12:00') AT TIME ZONE 'UTC' >= CAST(:since AS timestamptz)
          AND (day + time '12:00') AT TIME ZONE 'UTC' < CAST(:until AS timestamptz)
    ) AS used
), outstanding AS (
    SELECT array_agg(attempt.id) AS attempt_ids, array_agg(attempt.reserved) AS reserved
    FROM attempt JOIN run ON run.id = attempt.run_id
    WHERE attempt.state = 'running' AND attempt.reserved IS NOT NULL AND run.project = :project AND run.directive = :directive
      AND attempt.started_at >= CAST(:since AS timestamptz) AND attempt.started_at < CAST(:until AS timestamptz)
)
SELECT 0 AS steps, CAST(least(spent.tokens, 9007199254740991) AS bigint) AS tokens, CAST(least(spent.usd_nano, 9007199254740991) AS bigint) AS usd_nano, outstanding.attempt_ids, outstanding.reserved
FROM spent, outstanding
