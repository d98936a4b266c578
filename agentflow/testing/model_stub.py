"""Models that answer as a test says, behind the real llm executor and its clients: only the wire is replaced.

Owns the stubs and the bodies that a provider would send. Requests, errors, usage, prices and schemas are read by
production's own code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from agentflow.executors.base import Assignment, Lifeline, Performance
from agentflow.executors.llm import LlmExecutor
from agentflow.executors.model_clients import ModelClients, sending
from agentflow.executors.model_request import Question
from agentflow.executors.providers import BUILT_IN_KINDS, Credential, Credentials, ProviderKind
from agentflow.settings import Settings
from agentflow.testing.calls import Call, CallBook
from agentflow.testing.problems import WireProblem, model_problem
from agentflow.testing.script import RehearsalError, Script

if TYPE_CHECKING:
    from httpx2 import Request, Response
    from pydantic_ai.models import Model

Said = str | Mapping[str, Any] | list[Any]
Answering = Said | Callable[[str], Said]
_BYTES_A_TOKEN = 4
_URL = "http://model.invalid/v1"


@dataclass(frozen=True, slots=True)
class _Reply:
    answer: Answering = ""
    tokens: tuple[int, int] | None = None
    problem: WireProblem = WireProblem()  # noqa: RUF009 - it is frozen
    retry_after: float | None = None


class ModelStub:
    """What one model, or all whose name fits a pattern such as ``openai:*``, answers."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.script: Script[_Reply] = Script()

    def answers(self, *answers: Answering, tokens: tuple[int, int] | None = None) -> ModelStub:
        """Answer with these, one after the other, the last for ever: texts, JSON, or a function of the prompt.

        ``tokens`` are those of prompt and answer that the provider reports; else one for each four characters.
        """
        if not answers:
            raise RehearsalError(f"model({self.pattern!r}).answers needs an answer, such as .answers('two errors').")
        for answer in answers[:-1]:
            self.script.add(_Reply(answer, tokens), 1)
        self.script.add(_Reply(answers[-1], tokens), None)
        return self

    def fails(self, problem: str, *, times: int | None = 1, retry_after: float | None = None) -> ModelStub:
        """Fail, such as ``"rate_limited"`` or ``"content_filtered"``, so many times, with None for ever."""
        self.script.add(_Reply(problem=model_problem(problem), retry_after=retry_after), times)
        return self


class Models:
    """All stubs of models of a rehearsal."""

    def __init__(self) -> None:
        self._stubs: list[ModelStub] = []

    def stub(self, pattern: str) -> ModelStub:
        """Return the stub of a pattern, made at its first use."""
        for stub in self._stubs:
            if stub.pattern == pattern:
                return stub
        self._stubs.append(ModelStub(pattern))
        return self._stubs[-1]

    def find(self, model: str) -> ModelStub | None:
        """Return the stub for a model: the one of its very name, else the last whose pattern fits."""
        exact = [stub for stub in self._stubs if stub.pattern == model]
        fitting = [stub for stub in reversed(self._stubs) if fnmatchcase(model, stub.pattern)]
        return next(iter([*exact, *fitting]), None)


class StubbedLlmExecutor(LlmExecutor):
    """The llm executor, whose clients reach no provider; every provider has a credential here."""

    def __init__(self, settings: Settings, models: Models, book: CallBook) -> None:
        super().__init__(settings)
        self._world = settings, _AnyCredentials({}, ())
        self._models, self._book = models, book
        self._clients = _Clients(self._answer)
        self._asked: dict[str, _Asked] = {}

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Make the call; the stub answers."""
        question = Question.of(assignment)
        model = question.action.model
        reply = self._reply(assignment, model)
        texts = (question.prompt, question.system)
        self._book.note(
            Call("model", assignment.run_id, assignment.step_key, assignment.attempt, model, texts[0], texts[1])
        )
        self._asked[model.partition(":")[2]] = _Asked(assignment, question, reply)
        return super().perform(assignment, lifeline)

    def _reply(self, assignment: Assignment, model: str) -> _Reply:
        stub = self._models.find(model)
        reply = None if stub is None else stub.script.next()
        if reply is not None:
            return reply
        what = "no answer is left of" if stub else "nothing answers for"
        self._book.complain(
            assignment, f"{what} the model {model!r}. Say, before the run: agentflow.model({model!r}).answers(...)"
        )
        return _Reply(problem=model_problem("rejected"))

    async def _answer(self, request: Request) -> Response:
        from httpx2 import ConnectError, ReadError, Response

        watched = sending.get()
        asked = self._asked[json.loads(request.content)["model"]]
        problem = asked.reply.problem
        if problem.is_unconnected:
            raise ConnectError("as the test says", request=request)
        if watched is not None:
            watched.has_begun = True
        if problem.is_cut:
            raise ReadError("as the test says", request=request)
        headers = {} if asked.reply.retry_after is None else {"Retry-After": f"{asked.reply.retry_after:g}"}
        if problem.status != 200:
            error = {"message": "as the test says", "type": problem.code, "code": problem.code}
            return Response(problem.status, headers=headers, json={"type": "error", "error": error}, request=request)
        is_anthropic = request.url.path.endswith("/messages")
        body = _message(asked, self._said(asked)) if is_anthropic else _completion(asked, self._said(asked))
        return Response(200, headers=headers, json=body, request=request)

    def _said(self, asked: _Asked) -> str:
        answer = asked.reply.answer
        if callable(answer):
            try:
                answer = answer(asked.question.prompt)
            except Exception as error:  # noqa: BLE001 - a test's own function may raise anything; the test is told
                self._book.complain(asked.assignment, f"the test's function for its model raised {error!r}")
                return ""
        return answer if isinstance(answer, str) else json.dumps(answer)


@dataclass(frozen=True, slots=True)
class _Asked:
    assignment: Assignment
    question: Question
    reply: _Reply

    def tokens(self, said: str) -> tuple[int, int]:
        if self.reply.tokens is not None:
            return self.reply.tokens
        asked = sum(map(len, self.question.texts))
        return max(1, asked // _BYTES_A_TOKEN), max(1, len(said) // _BYTES_A_TOKEN)


class _AnyCredentials(Credentials):
    """A credential for whatever a plan names."""

    def find(self, credential_id: str) -> Credential:
        kind = BUILT_IN_KINDS.get(credential_id, ProviderKind.OPENAI_COMPATIBLE)
        if kind is ProviderKind.OFFLINE:  # which would be started; the other local kind costs and bounds the same
            kind = ProviderKind.OLLAMA
        address = "https://api.openai.com/v1" if kind is ProviderKind.OPENAI else _URL
        return Credential(credential_id, kind, address, SecretStr("no-key"))

    @property
    def kinds(self) -> Mapping[str, ProviderKind]:
        return BUILT_IN_KINDS


class _Clients(ModelClients):
    """The real clients over a wire that ends in a function."""

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        super().__init__()
        self._answer = answer

    def _make(self, credential: Credential, name: str) -> Model[Any]:
        from httpx2 import AsyncClient, MockTransport

        if credential not in self._transports:
            self._transports[credential] = AsyncClient(transport=MockTransport(self._answer))
        return super()._make(credential, name)


def _completion(asked: _Asked, said: str) -> dict[str, Any]:
    used = asked.tokens(said)
    return {
        "id": "rehearsed",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": asked.question.action.model.partition(":")[2],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": said},
                "finish_reason": asked.reply.problem.finish_reason or "stop",
            }
        ],
        "usage": {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)},
    }


_STOP_REASONS = {None: "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def _message(asked: _Asked, said: str) -> dict[str, Any]:
    used = asked.tokens(said)
    return {
        "id": "rehearsed",
        "type": "message",
        "role": "assistant",
        "model": asked.question.action.model.partition(":")[2],
        "content": [{"type": "text", "text": said}],
        "stop_reason": _STOP_REASONS[asked.reply.problem.finish_reason],
        "stop_sequence": None,
        "usage": {"input_tokens": used[0], "output_tokens": used[1]},
    }
