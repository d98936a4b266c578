-- Find whom calls were made for by attempts that began within a time: projects, and their directives.
-- Parameters: since, until, limit
SELECT DISTINCT project, directive FROM llm_call
WHERE started_at >= CAST(:since AS timestamptz) AND started_at < CAST(:until AS timestamptz)
ORDER BY project, directive NULLS FIRST
LIMIT :limit
