-- Let deliveries that have ended be sent again, now: those of some ids, or all that failed since a time.
-- Parameters: webhook_id, ids (null: all that failed), since (null: whenever)
UPDATE webhook_delivery SET state = 'pending', tries = 0, next_at = now()
WHERE webhook_id = :webhook_id AND state <> 'pending'
  AND CASE WHEN CAST(:ids AS uuid[]) IS NULL
           THEN state = 'failed' AND (CAST(:since AS timestamptz) IS NULL OR created_at >= CAST(:since AS timestamptz))
           ELSE id = ANY(CAST(:ids AS uuid[])) END
RETURNING id
