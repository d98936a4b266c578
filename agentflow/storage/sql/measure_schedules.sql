-- How schedules stand: enabled, held up by a run that rests, or disabled; and by how much the latest is overdue.
SELECT CASE WHEN NOT is_enabled THEN 'disabled' WHEN held_since IS NOT NULL THEN 'held_up' ELSE 'enabled' END AS state,
       count(*) AS schedules,
       CAST(coalesce(greatest(extract(epoch FROM now() - min(fire_at) FILTER (WHERE is_enabled)), 0), 0) AS double precision) AS overdue_seconds
FROM schedule
GROUP BY 1
