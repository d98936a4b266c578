-- Note from when on an entry of a user's own beat_schedule counts; one that is known stays as it is.
-- Parameters: name, last_run_at
INSERT INTO beat_entry (name, last_run_at, total_run_count) VALUES (:name, :last_run_at, 0)
ON CONFLICT (name) DO NOTHING
