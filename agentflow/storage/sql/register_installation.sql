-- Register content store and audit key, once per database.
-- Parameters: store_id, audit_key_fingerprint
INSERT INTO installation (id, store_id, audit_key_fingerprint) VALUES (1, :store_id, :audit_key_fingerprint)
ON CONFLICT (id) DO NOTHING
