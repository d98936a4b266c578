"""Performs ``http``: one call to a service, on the process's loop of calls.

Owns how an attempt becomes a call and its end a record. The request, the guard before the network, the wire and the
answer have modules of their own; budgets, limits and the circuit breaker are the engine's.

    scratch/body          the answer (0600), if its status is accepted
"""

from __future__ import annotations

import errno
import logging
import ssl
import time
from dataclasses import dataclass, field, replace
from functools import cached_property

import httpcore2

from agentflow.domain.action import HttpAction
from agentflow.domain.call import CallProblem
from agentflow.executors.base import Assignment, CallRecord, Estimate, Lifeline, Performance
from agentflow.executors.call_loop import CallEnd, Completed, Stopped, TimedOut, call_loop
from agentflow.executors.command import Ended, StartProblem
from agentflow.executors.guarded_network import Guard, PrivateHosts
from agentflow.executors.http_answer import AnswerFile
from agentflow.executors.http_exchange import Exchange, Wire
from agentflow.executors.http_request import HttpRequest, UnusableRequestError, authorised, request_of
from agentflow.executors.providers import Credentials, load_credentials
from agentflow.settings import load_settings

PROVIDER = "http"
for _name in ("httpcore2", "httpx2"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # below it they write urls and headers


@dataclass(frozen=True, slots=True)
class HttpWorld:
    """What calls are made with."""

    guard: Guard
    tls: ssl.SSLContext
    answer_limit_bytes: int
    credentials: Credentials = field(default_factory=lambda: Credentials({}, ()))


class HttpExecutor:
    """Calls HTTP services; what it needs of the settings is read with the first call."""

    action = "http"
    queue = "models"

    def __init__(self, world: HttpWorld | None = None) -> None:
        self._given = world

    @cached_property
    def _world(self) -> HttpWorld:
        if self._given is not None:
            return self._given
        settings = load_settings()
        guard = Guard(PrivateHosts.read(settings.http_private_hosts))
        tls, limit_bytes = httpcore2.default_ssl_context(), settings.answer_limit_bytes
        return HttpWorld(guard, tls, limit_bytes, load_credentials(settings))

    def _request(self, assignment: Assignment) -> HttpRequest:
        request, name = request_of(assignment), getattr(assignment.action, "credential", None)
        return request if name is None else authorised(request, self._world.credentials.find(name))

    def estimate(self, assignment: Assignment) -> Estimate:
        """Name the endpoint; a call costs no tokens. Raises ConfigurationError for settings that cannot be used."""
        try:
            request = self._request(assignment)
        except UnusableRequestError as error:
            return Estimate(problem=error.problem)
        if self._world.guard.refuses(request.host, request.port):
            return Estimate(request.endpoint, problem=CallProblem.PRIVATE_ADDRESS)
        return Estimate(request.endpoint)

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Make the call and keep its answer; every performance has its record.

        Raises TypeError for an action of another type, ConfigurationError for settings that cannot be used.
        """
        try:
            request = self._request(assignment)
        except UnusableRequestError as error:
            return Performance(Ended.EXITED, call=CallRecord(PROVIDER, "", was_sent=False, problem=error.problem))
        try:
            answer = AnswerFile(
                assignment.scratch / "body", self._world.answer_limit_bytes, (*assignment.masks, *request.masks)
            )
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0)
            call = CallRecord(PROVIDER, "", was_sent=False)
            return Performance(Ended.NOT_STARTED, problem=StartProblem.DIRECTORY_ERROR, problem_errno=name, call=call)
        return self._call(assignment, lifeline, request, answer)

    def close(self) -> None:
        """Nothing is kept: a connection ends with its call."""

    def _exchange(self, assignment: Assignment, request: HttpRequest, answer: AnswerFile) -> Exchange:
        action = assignment.action
        return Exchange(request, action.ok_status if isinstance(action, HttpAction) else None, answer, Wire())

    def _call(
        self, assignment: Assignment, lifeline: Lifeline, request: HttpRequest, answer: AnswerFile
    ) -> Performance:
        exchange = self._exchange(assignment, request, answer)
        started, is_kept = time.monotonic(), False
        try:
            end = call_loop().run(
                lambda: exchange.run(self._world.guard, self._world.tls), lifeline, assignment.timeout_seconds
            )
            is_kept = isinstance(end, Completed) and exchange.wire.problem is None
        finally:
            if not is_kept:
                answer.discard()
        duration = time.monotonic() - started if exchange.wire.is_begun else 0.0
        return _performance(end, exchange, duration, is_kept=is_kept)


def _performance(end: CallEnd[None], exchange: Exchange, duration: float, *, is_kept: bool) -> Performance:
    match end:
        case Completed():
            ended, exit_code, wire = Ended.EXITED, 0 if is_kept else None, exchange.wire
        case Stopped():
            ended, exit_code, wire = Ended.STOPPED, None, exchange.wire
        case TimedOut():
            ended, exit_code, wire = Ended.TIMED_OUT, 124, exchange.wire
    return Performance(
        ended,
        exit_code=exit_code,
        duration_seconds=duration if exchange.wire.was_sent else 0.0,  # only what was sent may have done something
        problem=None if wire.errno is None else StartProblem.STREAM_UNWRITABLE,
        problem_errno=errno.errorcode.get(wire.errno or 0),
        call=_record(exchange, duration, is_kept=is_kept),
    )


def _record(exchange: Exchange, duration: float, *, is_kept: bool) -> CallRecord:
    wire, answer = exchange.wire, exchange.answer
    record = CallRecord(
        PROVIDER,
        "",
        was_sent=wire.was_sent,
        problem=wire.problem,
        provider_status=wire.status,
        retry_after_seconds=wire.retry_after_seconds,
        duration_seconds=duration,
        request_sha256=exchange.request.sha256,
    )
    if not is_kept or answer is None:
        return record
    return replace(
        record,
        answer=answer.path,
        answer_bytes=answer.bytes,
        answer_sha256=answer.sha256,
        answer_media_type=wire.media_type,
    )
