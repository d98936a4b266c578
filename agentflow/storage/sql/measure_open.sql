-- What is open: of steps how many stand in each state, by action (kind step), and of runs how many have the same facts
-- behind their shown state (kind run), of one moment.
-- Only open runs and their steps are looked at: what has ended, however much, costs nothing.
WITH standing AS MATERIALIZED (
    SELECT run_id, state, paused IS NOT NULL AS is_paused, exhausted IS NOT NULL AS is_exhausted FROM run_state
    WHERE state NOT IN ('completed', 'partial', 'failed', 'cancelled')
), open AS MATERIALIZED (
    SELECT step.run_id, step.action, step.state, count(*) AS count,
           step.state = 'held' AND coalesce(step.reason ->> 'code', '') IN ('awaits_decision', 'awaits_person', 'awaits_signal') AS is_holding
    FROM standing JOIN step ON step.run_id = standing.run_id
    WHERE step.state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')
    GROUP BY step.run_id, step.action, step.state, is_holding
), moves AS (
    SELECT run_id, bool_or(is_holding) AS is_holding, bool_or(NOT is_holding AND state <> 'pending') AS is_moving
    FROM open GROUP BY run_id
)
SELECT 'step' AS kind, action, state, NULL AS is_paused, NULL AS is_exhausted, NULL AS is_holding, NULL AS is_moving,
       CAST(sum(count) AS bigint) AS open
FROM open GROUP BY action, state
UNION ALL
SELECT 'run', NULL, standing.state, standing.is_paused, standing.is_exhausted, coalesce(moves.is_holding, false),
       coalesce(moves.is_moving, false), count(*)
FROM standing LEFT JOIN moves ON moves.run_id = standing.run_id
GROUP BY 1, 2, 3, 4, 5, 6, 7
