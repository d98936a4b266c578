-- Wait until nobody is letting a run start, and let nobody begin to until this transaction ends.
-- Keeps true: whoever comes through enter_house.sql later sees what this transaction wrote about maintenance.
SELECT pg_advisory_xact_lock(hashtextextended('agentflow house', 0))
