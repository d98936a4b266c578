-- The installation row.
SELECT store_id, audit_key_fingerprint FROM installation WHERE id = 1
