-- Find whom calls were made for by attempts that began within a time: projects, and their directives; pruned runs too.
-- Parameters: since, until, limit
SELECT project, directive FROM llm_call
WHERE started_at >= CAST(:since AS timestamptz) AND started_at < CAST(:until AS timestamptz)
UNION
SELECT project, nullif(directive, '') FROM folded_usage
WHERE (day + time '12:00') AT TIME ZONE 'UTC' >= CAST(:since AS timestamptz)
  AND (day + time '12:00') AT TIME ZONE 'UTC' < CAST(:until AS timestamptz)
ORDER BY project, directive NULLS FIRST
LIMIT :limit
