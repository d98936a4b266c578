-- A plan by its fingerprint.
-- Parameters: fingerprint
SELECT document FROM plan WHERE fingerprint = :fingerprint
