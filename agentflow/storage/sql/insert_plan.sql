-- Store a plan under its fingerprint; a plan that is there already is the same plan.
-- Parameters: fingerprint, name, document (json text)
INSERT INTO plan (fingerprint, name, document)
VALUES (:fingerprint, :name, CAST(:document AS jsonb))
ON CONFLICT (fingerprint) DO NOTHING
RETURNING fingerprint
