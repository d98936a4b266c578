-- Give a term up at once, so that a standby need not wait for it to expire.
-- Parameters: service, holder, term
UPDATE leader SET expires_at = now() WHERE service = :service AND holder = :holder AND term = :term
