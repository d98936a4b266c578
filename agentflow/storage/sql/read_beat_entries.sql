-- When the entries of a user's own beat_schedule last fired.
-- Parameters: names
SELECT name, last_run_at, total_run_count FROM beat_entry WHERE name = ANY(CAST(:names AS text[]))
