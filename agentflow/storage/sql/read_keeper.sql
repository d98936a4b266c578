-- Who keeps the schedules, if anyone does now.
-- Parameters: service
SELECT holder FROM leader WHERE service = :service AND expires_at > now()
