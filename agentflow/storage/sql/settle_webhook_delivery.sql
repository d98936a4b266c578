-- Note how a try ended; no row comes back where another try has begun meanwhile, or the webhook is gone.
-- Parameters: id, attempts (as they were claimed: the fence), state, wait_seconds (null: it is not tried again), status,
--   duration_seconds, problem
UPDATE webhook_delivery
SET state = :state, last_at = now(), last_status = :status, problem = :problem,
    duration_seconds = CAST(:duration_seconds AS double precision),
    next_at = now() + make_interval(secs => CAST(:wait_seconds AS double precision))
WHERE id = :id AND attempts = :attempts AND state = 'pending'
RETURNING id
