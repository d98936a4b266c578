-- Stay out of the way of a maintenance until this transaction ends: none begins or ends meanwhile.
-- Keeps true: whoever lets a run start goes through here before it reads maintenance (read_maintenance.sql) in a
-- statement of its own: one that had waited here would still see what stood before. The queue is first come, first
-- served; locks on the row would let submits pass a maintenance that waits for it, for as long as there are any.
SELECT pg_advisory_xact_lock_shared(hashtextextended('agentflow house', 0))
