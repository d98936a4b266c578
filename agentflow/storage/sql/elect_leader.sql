-- Become or stay the leader of a service.
-- Parameters: service, holder, ttl_seconds
-- Keeps true: a term belongs to one holder; a lapsed leader that comes back gets a new term or none, never its old one.
INSERT INTO leader (service, holder, term, expires_at)
VALUES (:service, :holder, 1, now() + make_interval(secs => :ttl_seconds))
ON CONFLICT (service) DO UPDATE
SET holder = excluded.holder,
    term = CASE WHEN leader.holder = excluded.holder AND leader.expires_at > now() THEN leader.term ELSE leader.term + 1 END,
    expires_at = excluded.expires_at
WHERE leader.expires_at <= now() OR leader.holder = excluded.holder
RETURNING term
