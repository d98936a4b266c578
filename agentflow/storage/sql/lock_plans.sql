-- Take those plans for oneself that nobody is submitting or pushing right now.
-- Parameters: fingerprints
SELECT fingerprint FROM plan WHERE fingerprint = ANY(CAST(:fingerprints AS text[])) ORDER BY fingerprint
FOR UPDATE SKIP LOCKED
