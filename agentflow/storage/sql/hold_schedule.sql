-- Note that a resting run holds a schedule up.
-- Parameters: id
-- Keeps true: of those who see it at the same time one gets a row back: it is told once.
UPDATE schedule SET held_since = now() WHERE id = :id AND held_since IS NULL
RETURNING held_since
