"""HTTP services that answer as a test says, behind the real http executor: only the network is replaced.

Owns the stubs of services, and of the mails and webhooks of notify steps.
"""

from __future__ import annotations

import json as json_module
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import httpcore2

from agentflow.domain.action import NotifyAction
from agentflow.executors.base import Assignment, CallRecord, Estimate, Lifeline, Performance
from agentflow.executors.command import Ended
from agentflow.executors.guarded_network import Guard, PrivateHosts
from agentflow.executors.http import HttpExecutor, HttpWorld
from agentflow.executors.http_answer import AnswerFile
from agentflow.executors.http_exchange import Exchange
from agentflow.executors.http_request import HttpRequest, request_of
from agentflow.executors.notify import NOTICE_TEXT, MailWorld, NotifyExecutor
from agentflow.executors.smtp import PROVIDER
from agentflow.settings import Settings
from agentflow.testing.calls import Call, CallBook
from agentflow.testing.problems import WireProblem, service_problem
from agentflow.testing.script import Script

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    problem: WireProblem | None = None


class HttpStub:
    """What a service answers at one url, or at all that fit a pattern such as ``https://api.example.org/*``."""

    def __init__(self, pattern: str, method: str | None) -> None:
        self.pattern, self.method = pattern, method
        self.script: Script[_Reply] = Script()

    def returns(
        self,
        status: int = 200,
        *,
        json: Any = None,
        text: str | None = None,
        headers: dict[str, str] | None = None,
        times: int | None = None,
    ) -> HttpStub:
        """Answer with a status and a body, so many times, or for ever."""
        body = b"" if json is None else json_module.dumps(json).encode()
        kind = "application/json" if json is not None else "text/plain; charset=utf-8"
        written = {"content-type": kind, **{name.lower(): value for name, value in (headers or {}).items()}}
        pairs = tuple((name.encode(), value.encode()) for name, value in written.items())
        self.script.add(_Reply(status, pairs, body if text is None else text.encode()), times)
        return self

    def fails(self, problem: str, *, times: int | None = 1, retry_after: float | None = None) -> HttpStub:
        """Fail, such as ``"unavailable"`` or ``"connection_lost"``, so many times, with None for ever."""
        found = service_problem(problem)
        headers = () if retry_after is None else ((b"retry-after", f"{retry_after:g}".encode()),)
        self.script.add(_Reply(found.status, headers, problem=found), times)
        return self


class Services:
    """All stubs of services of a rehearsal."""

    def __init__(self) -> None:
        self._stubs: list[HttpStub] = []

    def stub(self, pattern: str, method: str | None) -> HttpStub:
        """Return the stub of a pattern, made at its first use."""
        for stub in self._stubs:
            if (stub.pattern, stub.method) == (pattern, method):
                return stub
        self._stubs.append(HttpStub(pattern, method))
        return self._stubs[-1]

    def find(self, method: str, url: str) -> HttpStub | None:
        """Return the stub for a request: the one of its very url, else the last whose pattern fits."""
        served = [stub for stub in reversed(self._stubs) if stub.method in (None, method)]
        exact = [stub for stub in served if stub.pattern == url]
        return next(iter([*exact, *(stub for stub in served if fnmatchcase(url, stub.pattern))]), None)


class StubbedHttpExecutor(HttpExecutor):
    """The http executor without a network. Keys of credentials are not at hand here, and are not sent."""

    def __init__(self, settings: Settings, services: Services, book: CallBook) -> None:
        guard = Guard(PrivateHosts.read(settings.http_private_hosts))
        super().__init__(HttpWorld(guard, httpcore2.default_ssl_context(), settings.answer_limit_bytes))
        self._services, self._book = services, book

    def _request(self, assignment: Assignment) -> HttpRequest:
        return request_of(assignment)

    def _exchange(self, assignment: Assignment, request: HttpRequest, answer: AnswerFile) -> Exchange:
        exchange = super()._exchange(assignment, request, answer)
        url = _url_of(request)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
        self._book.note(
            Call(
                "http",
                assignment.run_id,
                assignment.step_key,
                assignment.attempt,
                url,
                method=request.method,
                headers=headers,
                body=request.body,
            )
        )
        reply = self._reply(assignment, request.method, url)
        return _StubbedExchange(request, exchange.ok_status, answer, exchange.wire, reply)

    def _reply(self, assignment: Assignment, method: str, url: str) -> _Reply:
        stub = self._services.find(method, url)
        reply = None if stub is None else stub.script.next()
        if reply is not None:
            return reply
        what = "no answer is left for" if stub else "nothing answers"
        self._book.complain(
            assignment, f"{what} {method} {url}. Say, before the run: agentflow.http({url!r}).returns(200, json=...)"
        )
        return _Reply(problem=service_problem("rejected"))


@dataclass(frozen=True, slots=True)
class _StubbedExchange(Exchange):
    reply: _Reply

    async def _run(self, guard: Guard, tls: Any) -> None:
        problem = self.reply.problem
        if problem is not None and problem.is_unconnected:
            raise httpcore2.ConnectError("as the test says")
        self.wire.was_sent = self.wire.is_begun = True
        if problem is not None and problem.is_cut:
            raise httpcore2.ReadError("as the test says")
        response = httpcore2.Response(self.reply.status, headers=list(self.reply.headers), content=self.reply.body)
        self._note_head(response)
        if self.wire.problem is None:
            await self._keep(response)


class StubbedNotifyExecutor(NotifyExecutor):
    """The notify executor: a webhook goes to the stubs of services, a mail into the book, a command is real."""

    def __init__(self, settings: Settings, book: CallBook) -> None:
        super().__init__(MailWorld(None, settings.smtp_from))
        self._book = book

    def estimate(self, assignment: Assignment) -> Estimate:
        """Name whom it calls; a mail is always taken."""
        return Estimate() if _is_mail(assignment) else super().estimate(assignment)

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Hand the notice over, or note the mail."""
        action = assignment.action
        if not (isinstance(action, NotifyAction) and action.email):
            return super().perform(assignment, lifeline)
        notice = assignment.texts[NOTICE_TEXT].encode()
        to = ", ".join(action.email)
        self._book.note(Call("mail", assignment.run_id, assignment.step_key, assignment.attempt, to, body=notice))
        return Performance(Ended.EXITED, exit_code=0, call=CallRecord(PROVIDER, "", was_sent=True))


def _is_mail(assignment: Assignment) -> bool:
    return isinstance(assignment.action, NotifyAction) and bool(assignment.action.email)


def _url_of(request: HttpRequest) -> str:
    port = "" if request.port == _DEFAULT_PORTS.get(request.scheme) else f":{request.port}"
    return f"{request.scheme}://{request.host}{port}{request.target.decode('ascii')}"
