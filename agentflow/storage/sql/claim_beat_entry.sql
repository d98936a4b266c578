-- Take a firing of an entry of a user's own beat_schedule before it is sent.
-- Parameters: name, old_run_at, last_run_at, service, holder, term
-- Keeps true: of those who see it due from the same last firing one gets a row back, and only while its term holds.
UPDATE beat_entry SET last_run_at = :last_run_at, total_run_count = total_run_count + 1
WHERE name = :name AND last_run_at = :old_run_at
  AND EXISTS (SELECT FROM leader
              WHERE service = :service AND holder = :holder AND term = :term AND expires_at > now())
RETURNING total_run_count
