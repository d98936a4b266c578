"""Reply once: what is asked for under an idempotency key is done once, and its answer given again for a day.

A request that is refused before anything was recorded has done nothing, and lets go of its key. What broke off
otherwise keeps it: nobody can tell whether it was done, and doing it again would be a guess.
"""

from __future__ import annotations

from collections.abc import Callable

from agentflow.domain.error import AgentflowError, RequestConflict, ServersUnreachable
from agentflow.engine.context import EngineContext
from agentflow.storage import replies
from agentflow.storage.database import ConflictingWrite, UnwritableValue
from agentflow.storage.deeds import noting
from agentflow.storage.replies import Asked, Reply, Standing
from agentflow.telemetry import get_logger

log = get_logger(__name__)


def reply_once(context: EngineContext, asked: Asked, do: Callable[[], Reply]) -> Reply | None:
    """Do what is asked for; None is for what is done now, a reply for what was done before.

    RequestConflict where the key stands for another request, or for one that has no answer that could be given.
    """
    with context.database.transaction() as tx:
        begun_at = replies.begin(tx, asked)
        standing = replies.read(tx, asked) if begun_at is None else None
    if begun_at is None:
        return _again(asked, standing)
    with noting() as deeds:
        try:
            reply = do()
        except ServersUnreachable:
            raise
        except (AgentflowError, ConflictingWrite, UnwritableValue):
            if not deeds.is_any:
                with context.database.transaction() as tx:
                    replies.forget(tx, asked, begun_at)
            raise
    try:
        with context.database.transaction() as tx:
            replies.finish(tx, asked, begun_at, reply)
    except ServersUnreachable as error:  # it is done, and whoever asked is better told so
        log.warning("reply_not_kept", error=type(error).__name__)
    return None


def _again(asked: Asked, standing: Standing | None) -> Reply:
    key = asked.idempotency_key
    if standing is None:
        raise RequestConflict(f"The idempotency key {key!r} came free just now: ask again.", key=key)
    if standing.request_sha256 != asked.request_sha256:
        raise RequestConflict(
            f"The idempotency key {key!r} belongs to another request. Use another key, or send the same request.",
            key=key,
        )
    begun = standing.begun_at.isoformat()
    if standing.reply is None:
        raise RequestConflict(
            f"The request of the idempotency key {key!r} was begun at {begun} and has no answer yet: ask again. If "
            "that lasts, it broke off; look whether it was done before you use another key.",
            key=key,
            begun_at=begun,
        )
    if standing.reply.body is None:
        raise RequestConflict(
            f"The request of the idempotency key {key!r} was done at {begun}. Its answer held a secret, which was told "
            "once and is kept nowhere: revoke what was made then, and ask under another key.",
            key=key,
            begun_at=begun,
        )
    return standing.reply
