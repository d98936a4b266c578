"""The call that tells a webhook something: one POST, through the guards of http steps.

Owns how a message becomes a request and its end a record. Private addresses are refused unless they are allowed, the
address that was looked up is the one that is called, redirects are not followed, and of an answer only its head is
read.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import httpcore2

from agentflow.domain.action import HttpAction
from agentflow.domain.call import CallProblem
from agentflow.domain.webhook import TIMED_OUT
from agentflow.executors.base import Assignment, Lifeline
from agentflow.executors.call_loop import Completed, Stopped, TimedOut, call_loop
from agentflow.executors.guarded_network import Guard, PrivateHosts
from agentflow.executors.http_exchange import Exchange, Wire
from agentflow.executors.http_request import BODY_TEXT, HttpRequest, UnusableRequestError, request_of


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, and where; the address may hold a credential."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """How a call ended: well without a ``problem``, which is a code."""

    status: int | None = None
    problem: str | None = None
    retry_after_seconds: float | None = None
    duration_seconds: float = 0.0
    is_stopped: bool = False
    """It was ended from here, so nothing is known of it."""


class WebhookCaller:
    """Tells webhooks; safe to use from any thread. ``private_hosts`` as in the settings."""

    def __init__(self, private_hosts: tuple[str, ...], timeout_seconds: float) -> None:
        self._guard = Guard(PrivateHosts.read(private_hosts))
        self._timeout_seconds = timeout_seconds

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpcore2.default_ssl_context()

    def check(self, url: str) -> CallProblem | None:
        """Say what is wrong with an address as far as it says so itself; a name is looked up when it is called."""
        try:
            request = _request(Message(url, {}, "{}"))
        except UnusableRequestError as error:
            return error.problem
        return CallProblem.PRIVATE_ADDRESS if self._guard.refuses(request.host, request.port) else None

    def call(self, message: Message, lifeline: Lifeline) -> Answered:
        """Send a message and tell how it was answered; whatever goes wrong is a value."""
        try:
            request = _request(message)
        except UnusableRequestError as error:
            return Answered(problem=error.problem)
        exchange, started = Exchange(request, None, None, Wire()), time.monotonic()
        end = call_loop().run(lambda: exchange.run(self._guard, self._tls), lifeline, self._timeout_seconds)
        wire, duration = exchange.wire, time.monotonic() - started
        match end:
            case Completed():
                return Answered(wire.status, wire.problem, wire.retry_after_seconds, duration)
            case TimedOut():
                return Answered(wire.status, TIMED_OUT, None, duration)
            case Stopped():
                return Answered(duration_seconds=duration, is_stopped=True)


def _request(message: Message) -> HttpRequest:
    action = HttpAction(method="POST", url=message.url, headers=dict(message.headers))
    texts = {BODY_TEXT: message.body}
    return request_of(Assignment("", "", 1, action, Path(), 0, texts=texts))  # what a call of a step has and this not
