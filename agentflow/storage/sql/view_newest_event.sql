-- The highest id of an event that can be seen, 0 where there is none.
SELECT coalesce(max(id), 0) AS newest FROM audit_event
