-- Plans whose fingerprint begins like this, the newest first. A plain read.
-- Parameters: prefix (hex digits), limit
SELECT fingerprint FROM plan
WHERE fingerprint >= :prefix AND fingerprint < :prefix || 'g'
ORDER BY created_at DESC
LIMIT :limit
