"""The webhook sender: tells webhooks beside the leading dispatcher, in threads of its own: no doorbell waits for it.

Owns when, how many at once, and the end. One thread reads events, takes deliveries and settles them; the calls run in a
few others. Two senders at once, as after a change of the leader, take different deliveries.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from agentflow.domain.error import AgentflowError
from agentflow.domain.webhook import NOT_CALLED
from agentflow.engine.context import EngineContext
from agentflow.engine.queue_webhooks import WebhookQueue
from agentflow.engine.send_webhook import LEASE_SECONDS, TIMEOUT_SECONDS, send, settle
from agentflow.executors.base import Lifeline, StopReason
from agentflow.storage import webhooks
from agentflow.storage.database import ConflictingWrite
from agentflow.storage.webhooks import Call
from agentflow.telemetry import get_logger

if TYPE_CHECKING:
    from agentflow.executors.webhook_call import Answered, WebhookCaller

log = get_logger(__name__)

LOOK_SECONDS = 1.0
CALLS = 16
"""How many calls are under way at once."""
CALLS_EACH = 3
"""Of one webhook: one that hangs leaves room for the others."""
UNTENDED_SECONDS = 5.0
"""After which a dispatcher that does not tend leads no more."""
STOP_SECONDS = 3.0
PRUNE_SECONDS = 3600.0
KEPT_SECONDS, KEPT_EACH, PRUNED_AT_ONCE = 14 * 86_400.0, 10_000, 1000


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A call that was begun."""

    call: Call
    lifeline: Lifeline = field(default_factory=lambda: Lifeline(LEASE_SECONDS))


class WebhookSender:
    """Tells webhooks for one dispatcher: ``tend`` whenever it leads, ``stop`` at its end."""

    def __init__(self, context: EngineContext, actor: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._context = context
        self._actor = actor
        self._timeout_seconds = timeout_seconds
        self._queue = WebhookQueue(context)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._under_way: dict[Future[Answered], _UnderWay] = {}
        self._tended_at = self._looked_at = self._pruned_at = time.monotonic()
        self._trouble: str | None = None

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(CALLS, thread_name_prefix="webhook")

    @cached_property
    def _caller(self) -> WebhookCaller:
        from agentflow.executors.webhook_call import WebhookCaller  # it loads the libraries of http

        return WebhookCaller(self._context.settings.http_private_hosts, self._timeout_seconds)

    def tend(self) -> None:
        """Look for something to tell if it is time to and nobody does; returns at once."""
        self._tended_at = time.monotonic()
        if self._stopping.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        if self._tended_at - self._looked_at < LOOK_SECONDS:
            return
        self._thread = threading.Thread(target=self._shift, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the calls that are under way; what is not settled by then is sent again."""
        self._stopping.set()
        for each in list(self._under_way.values()):
            each.lifeline.stop(StopReason.DRAINED)
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        if "_pool" in self.__dict__:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def work(self) -> None:
        """Tell everything that is due, until nothing is left, the end has come or somebody else leads."""
        while not self._stopping.is_set() and time.monotonic() - self._tended_at < UNTENDED_SECONDS:
            has_more = self._queue.queue()
            self._begin()
            if not self._under_way and not has_more:
                break
            self._settle()
        self._prune()

    def _shift(self) -> None:
        try:
            self.work()
        except (AgentflowError, ConflictingWrite) as error:
            if self._trouble != str(error):  # say once what stands in the way
                log.warning("webhooks_hindered", error=str(error))
            self._trouble = str(error)
        except Exception:  # whatever it is, the next shift tries again and the log says so
            log.exception("webhooks_failed")
        else:
            self._trouble = None
        self._looked_at = time.monotonic()

    def _begin(self) -> None:
        """Take what there is room for, and begin to call."""
        room = CALLS - len(self._under_way)
        if not room:
            return
        callees = [each.call.webhook_id for each in self._under_way.values()]
        with self._context.database.transaction() as tx:
            claimed = webhooks.claim(tx, callees, CALLS_EACH, room, LEASE_SECONDS)
        for call in claimed:
            begun = _UnderWay(call)
            self._under_way[self._pool.submit(send, self._context, self._caller, call, begun.lifeline)] = begun

    def _settle(self) -> None:
        """Wait a moment for calls to end, and note how they did."""
        ended, _ = wait(self._under_way, LOOK_SECONDS, FIRST_COMPLETED)
        for future in ended:
            call = self._under_way[future].call
            answered = _answer_of(future, call)
            if not answered.is_stopped:
                settle(self._context, call, answered, self._actor)
            del self._under_way[future]

    def _prune(self) -> None:
        if time.monotonic() - self._pruned_at < PRUNE_SECONDS:
            return
        with self._context.database.transaction() as tx:
            pruned = webhooks.prune(tx, KEPT_SECONDS, KEPT_EACH, PRUNED_AT_ONCE)
        if pruned < PRUNED_AT_ONCE:
            self._pruned_at = time.monotonic()


def _answer_of(future: Future[Answered], call: Call) -> Answered:
    """Return how a call ended; one that could not be made counts as a try, or it would be tried for ever."""
    from agentflow.executors.webhook_call import Answered  # it is loaded: the call was to be made with it

    if future.cancelled():
        return Answered(is_stopped=True)
    error = future.exception()
    if error is None:
        return future.result()
    log.error("webhook_not_called", delivery=str(call.id), error=type(error).__name__)  # its text may quote an address
    return Answered(problem=NOT_CALLED)
