-- Whether a term still holds. A leader asks this first in every transaction in which it acts as one.
-- Parameters: service, holder, term
SELECT 1 FROM leader WHERE service = :service AND holder = :holder AND term = :term AND expires_at > now()
