-- Record the files that an attempt produced.
-- Parameters: run_id, step_id, attempt_id, artifacts (json text: array of {name, kind, bytes, bytes_seen, sha256, media_type, is_cut})
INSERT INTO artifact (attempt_id, run_id, step_id, name, kind, bytes, bytes_seen, sha256, media_type, is_cut)
SELECT :attempt_id, :run_id, :step_id, made.name, made.kind, made.bytes, made.bytes_seen, made.sha256, made.media_type, made.is_cut
FROM jsonb_to_recordset(CAST(:artifacts AS jsonb)) AS made (
    name text, kind text, bytes bigint, bytes_seen bigint, sha256 text, media_type text, is_cut boolean)
