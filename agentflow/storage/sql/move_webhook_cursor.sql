-- Note up to which event deliveries were made; the caller has locked the row. It keeps true: the place only rises.
-- Parameters: event_id
UPDATE webhook_cursor SET event_id = :event_id WHERE id = 1 AND event_id < :event_id
