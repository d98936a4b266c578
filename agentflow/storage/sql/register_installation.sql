-- Register content store and audit key, once per database.
-- Parameters: store_id, audit_key_fingerprint
-- Keeps true: the installation's own chain goes on behind the events that survived a migration's way down.
INSERT INTO installation (id, store_id, audit_key_fingerprint, event_sequence, event_head)
SELECT 1, :store_id, :audit_key_fingerprint, coalesce(max(last.sequence), 0), (array_agg(last.mac))[1]
FROM (SELECT sequence, mac FROM audit_event WHERE run_id = '00000000-0000-0000-0000-000000000000'
      ORDER BY sequence DESC LIMIT 1) AS last
ON CONFLICT (id) DO NOTHING
