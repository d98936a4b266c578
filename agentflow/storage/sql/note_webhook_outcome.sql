-- Note whether a webhook could be told; a success is noted once a minute, for the row is everybody's.
-- Parameters: id, is_delivered, patience_seconds
UPDATE webhook
SET delivered_at = CASE WHEN :is_delivered THEN now() ELSE delivered_at END,
    failing_since = CASE WHEN :is_delivered THEN NULL ELSE coalesce(failing_since, now()) END
WHERE id = :id AND (NOT :is_delivered OR failing_since IS NOT NULL OR delivered_at IS NULL
                    OR delivered_at < now() - interval '1 minute')
RETURNING disabled_at IS NULL
          AND failing_since < now() - make_interval(secs => CAST(:patience_seconds AS double precision)) AS is_given_up
