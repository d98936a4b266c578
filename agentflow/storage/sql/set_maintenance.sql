-- Put all of the installation under maintenance, or end that. The caller holds the row (lock_installation.sql).
-- Parameters: maintenance (json text: {actor, why, at, is_hard, scope}, or null)
UPDATE installation SET maintenance = CAST(:maintenance AS jsonb) WHERE id = 1
