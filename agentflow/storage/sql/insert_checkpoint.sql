-- Note a checkpoint that is on the disk; no row if another leader, with another file, has taken its number.
-- Parameters: number, sha256, leaves
INSERT INTO checkpoint (number, sha256, leaves) VALUES (:number, :sha256, :leaves)
ON CONFLICT (number) DO NOTHING
RETURNING number
