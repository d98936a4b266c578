-- Let deliveries be sent again, now, from the first try on: those of some ids, or all that failed since a time.
-- Parameters: webhook_id, ids (null: all that failed), since (null: whenever), lease_seconds
-- Keeps true: what is being sent is left alone. It is due again before its lease has ended; what waits for longer than
--   that has failed and waits for its next try.
UPDATE webhook_delivery SET state = 'pending', tries = 0, next_at = now()
WHERE webhook_id = :webhook_id
  AND (state <> 'pending'
       OR (tries > 0 AND next_at > now() + make_interval(secs => CAST(:lease_seconds AS double precision))))
  AND CASE WHEN CAST(:ids AS uuid[]) IS NULL
           THEN state <> 'delivered'
                AND (CAST(:since AS timestamptz) IS NULL OR created_at >= CAST(:since AS timestamptz))
           ELSE id = ANY(CAST(:ids AS uuid[])) END
RETURNING id
