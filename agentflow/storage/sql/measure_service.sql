-- How the service stands: whether a dispatcher leads, the lease that ends first, dead letters, and Postgres itself.
-- Parameters: service
SELECT EXISTS (SELECT FROM leader WHERE service = :service AND expires_at > now()) AS is_led,
       CAST((SELECT extract(epoch FROM now() - min(lease_until)) FROM attempt WHERE state = 'running') AS double precision) AS lease_overdue_seconds,
       (SELECT count(*) FROM step WHERE state = 'failed' AND (reason ->> 'code') = 'poisoned') AS dead_letters,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       CAST(current_setting('max_connections') AS integer) AS max_connections,
       (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks,
       pg_database_size(current_database()) AS database_bytes
