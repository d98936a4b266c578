-- Note that a worker ended as it should.
-- Parameters: name, pid
-- Keeps true: another worker that has begun under the same name is left alone, unless it also has the same process id.
UPDATE worker SET ended_at = now(), seen_at = now() WHERE name = :name AND pid = :pid AND ended_at IS NULL
