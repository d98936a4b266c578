-- How many attempts ended lately, how many of them well, how many badly, and how long they took on average: of a project or of all.
-- Parameters: project (null: all), window_seconds, depth (how many of the newest events are looked at, so that it costs
-- no more on a busy day), counted (text[]: how attempts end that tell of success or failure)
WITH ended AS (
    SELECT event.run_id, event.step_id, event.verdict, CAST(event.facts ->> 'attempt' AS integer) AS number
    FROM audit_event AS event
    WHERE event.id > (SELECT max(id) FROM audit_event) - :depth
      AND event.at > now() - make_interval(secs => :window_seconds)
      AND event.verdict = ANY (CAST(:counted AS text[])) AND event.facts ? 'attempt'
)
SELECT count(*) AS ended, count(*) FILTER (WHERE ended.verdict = 'succeeded') AS succeeded,
       avg(extract(epoch FROM attempt.ended_at - attempt.started_at) * 1000) AS latency_ms
FROM ended JOIN attempt ON attempt.step_id = ended.step_id AND attempt.number = ended.number
WHERE CAST(:project AS text) IS NULL
   OR EXISTS (SELECT FROM run WHERE run.id = ended.run_id AND run.project = CAST(:project AS text))
