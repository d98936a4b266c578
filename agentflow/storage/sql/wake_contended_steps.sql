-- Make steps due that were snoozed because others had reserved what they need, those first that wait longest.
-- Parameters: scopes, count (of steps a scope), within_seconds (the longest that such a snooze lasts)
-- Keeps true: nobody waits for a lock here; a step that is due already is left alone. What its run does now is only looked at: a step
-- that is woken in vain is refused by its claim.
WITH waiting AS (
    SELECT step.id
    FROM unnest(CAST(:scopes AS text[])) AS freed (scope)
    CROSS JOIN LATERAL (
        SELECT step.id FROM step JOIN run_state ON run_state.run_id = step.run_id
        WHERE run_state.state = 'running' AND run_state.rests_since IS NULL
          AND step.state IN ('ready', 'retrying') AND step.not_before > now()
          AND step.not_before <= now() + make_interval(secs => :within_seconds)
          AND step.reason ->> 'code' = 'budget_contended' AND step.reason -> 'detail' ->> 'scope' = freed.scope
        ORDER BY step.not_before
        LIMIT :count
        FOR NO KEY UPDATE OF step SKIP LOCKED
    ) AS step
)
UPDATE step SET not_before = now(), sent_at = NULL FROM waiting WHERE step.id = waiting.id
RETURNING step.id
