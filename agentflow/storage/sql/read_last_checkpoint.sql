-- The number of the last checkpoint, how long ago it was signed, since when a run waits for one, and the head of the installation's own chain.
-- The longest wait is that of the run that ended first, or of the tombstone that was made first.
SELECT installation.store_id, installation.event_sequence, installation.event_head, now() AS at,
       coalesce((SELECT max(number) FROM checkpoint), 0) AS number,
       (SELECT extract(epoch FROM now() - signed_at) FROM checkpoint ORDER BY number DESC LIMIT 1) AS age_seconds,
       least((SELECT min(ended_at) FROM run_state WHERE ended_at IS NOT NULL AND checkpoint IS NULL),
             (SELECT min(pruned_at) FROM tombstone WHERE checkpoint IS NULL)) AS waits_since
FROM installation
