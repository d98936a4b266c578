-- Take back the delivery notes of doorbells that must be lost, so that they are sent again.
-- Parameters: queue, waiting (messages now in the queue), patience_seconds
-- Keeps true: the queue is first in, first out, so the newest `waiting` notes may still be in it; an older note whose
-- doorbell was rung neither by a claim nor within the patience is lost. A doubled doorbell changes nothing. A step that
-- somebody else holds is being acted on, and is left alone.
WITH noted AS (
    SELECT id, sent_at, row_number() OVER (ORDER BY sent_at DESC, id) AS newness
    FROM step
    WHERE queue = :queue AND state IN ('ready', 'retrying') AND sent_at IS NOT NULL
), lost AS (
    SELECT step.id FROM step JOIN noted ON noted.id = step.id
    WHERE noted.newness > :waiting
      AND step.sent_at < now() - make_interval(secs => :patience_seconds) AND step.sent_at = noted.sent_at
    FOR NO KEY UPDATE OF step SKIP LOCKED
)
UPDATE step SET sent_at = NULL FROM lost WHERE step.id = lost.id
RETURNING step.id
