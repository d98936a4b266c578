-- The transactions that may have written events and have not ended yet.
-- Keeps true: who takes an id for an event holds this lock from before until the end of his transaction is to be seen by
-- all. Transactions of other databases and those that only read are not among them.
SELECT DISTINCT virtualtransaction
FROM pg_locks
WHERE locktype = 'relation' AND relation = CAST('audit_event' AS regclass) AND mode = 'RowExclusiveLock'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
