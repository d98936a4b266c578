"""Performs ``llm``: one call of a model, whose answer goes into a file of the scratch directory and nowhere else.

Owns the bound of a call, what its answer means and the record of it. Clients are model_clients', the request
model_request's, errors model_errors', prices pricing's. pydantic-ai is loaded with the first call only.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

from pydantic import SecretStr

from agentflow.domain.budget import MAX_TOKENS, MAX_USD_NANO
from agentflow.domain.call import MEANINGS, CallProblem, CallUsage
from agentflow.executors.answer_schema import keeps_to_schema
from agentflow.executors.base import Assignment, CallRecord, Estimate, Lifeline, Performance
from agentflow.executors.call_loop import Completed, Stopped, TimedOut, call_loop
from agentflow.executors.command import Ended
from agentflow.executors.model_clients import ModelClients, Sending
from agentflow.executors.model_errors import CallFailure, failure_of
from agentflow.executors.model_request import Answer, Question, ask
from agentflow.executors.offline_model import (
    OfflineModelFailed,
    OfflineModelMissing,
    close_offline_model,
    is_installed,
    offline_endpoint,
)
from agentflow.executors.pricing import most_usd_nano, price_of, used_usd_nano
from agentflow.executors.providers import Credential, Credentials, ProviderKind, load_credentials
from agentflow.executors.token_bound import most_prompt_tokens
from agentflow.settings import Settings, load_settings

ANSWER_NAME = "text"
_FINISH_PROBLEMS = {
    "content_filter": CallProblem.CONTENT_FILTERED,
    "length": CallProblem.CUT_AT_LENGTH,
    "error": CallProblem.SERVER_ERROR,
}


class LlmExecutor:
    """Calls models; settings and credentials are read at the first use in a process."""

    action = "llm"
    queue = "models"

    def __init__(self, settings: Settings | None = None) -> None:
        self._given = settings
        self._world: tuple[Settings, Credentials] | None = None
        self._clients = ModelClients()

    def estimate(self, assignment: Assignment) -> Estimate:
        """Say what the call will use at most. Calls nobody; the first in a process reads credentials and loads clients.

        Loading takes seconds, and is here so that it is no part of the time that the step gives its call.
        """
        question = Question.of(assignment)
        settings, credentials = self._settings_and_credentials()
        credential = self._find(question)
        if isinstance(credential, CallProblem):
            return Estimate(problem=credential)
        if not _is_available(credential, settings):
            return Estimate(endpoint=credential.endpoint, problem=CallProblem.NOT_INSTALLED)
        self._load(credential, question)
        bound = _bound(question, credential, credentials, question.action.max_tokens or 1)
        if question.action.max_tokens is None:  # the answer has no bound, and costs nothing only if nothing does
            return Estimate(credential.endpoint, None, 0 if bound.usd_nano == 0 else None)
        return Estimate(credential.endpoint, bound.tokens if bound.tokens <= MAX_TOKENS else None, bound.usd_nano)

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Make the call and keep its answer in ``scratch/text``, mode 0600, unless something was wrong with it."""
        began = time.monotonic()
        question = Question.of(assignment)
        credential = self._reachable(self._find(question))
        provider, _, name = question.action.model.partition(":")
        record = CallRecord(provider, name, was_sent=False, request_sha256=question.sha256())
        if isinstance(credential, CallProblem):
            return _performance(Ended.EXITED, replace(record, problem=credential), began)
        watched = Sending(self._settings_and_credentials()[0].answer_limit_bytes)
        seconds, began = assignment.timeout_seconds - (time.monotonic() - began), time.monotonic()
        end = self._call(question, credential, watched, lifeline, seconds)
        record = replace(record, was_sent=watched.has_begun)
        match end:
            case Stopped():
                return _performance(Ended.STOPPED, self._estimated(record, question, credential), began)
            case TimedOut():
                return _performance(Ended.TIMED_OUT, self._estimated(record, question, credential), began)
            case CallFailure():
                failed = self._estimated(_failed(record, end, watched), question, credential)
                return _performance(Ended.EXITED, failed, began)
            case Answer():
                answered = self._answered(replace(record, was_sent=True), question, credential, end)
                return _performance(Ended.EXITED, _kept(answered, end, assignment.scratch), began)
        assert_never(end)

    def close(self) -> None:
        """Close the connections and end the offline model of this process."""
        self._clients.close()
        close_offline_model()

    def _settings_and_credentials(self) -> tuple[Settings, Credentials]:
        if self._world is None:  # two threads may both read; they read the same
            settings = self._given or load_settings()
            self._world = settings, load_credentials(settings)
        return self._world

    def _load(self, credential: Credential, question: Question) -> None:
        with suppress(Exception):  # what is wrong with it the call meets again, and names
            if credential.kind is ProviderKind.OFFLINE:  # its address is not known before it runs
                import_module("pydantic_ai.models.openai")
            else:
                self._clients.model(credential, question.action.model.partition(":")[2])

    def _estimated(self, record: CallRecord, question: Question, credential: Credential) -> CallRecord:
        """Take the bound for what a call used that was sent, unless its usage is known or it was refused."""
        is_refused = record.problem is not None and MEANINGS[record.problem].is_refusal
        if not record.was_sent or record.usage is not None or is_refused:
            return record
        credentials = self._settings_and_credentials()[1]
        return replace(record, usage=_bound(question, credential, credentials, question.action.max_tokens or 0))

    def _find(self, question: Question) -> Credential | CallProblem:
        found = self._settings_and_credentials()[1].find(question.action.model.partition(":")[0])
        if isinstance(found, Credential) and found.kind is ProviderKind.HTTP:
            return CallProblem.UNKNOWN_PROVIDER
        return found

    def _reachable(self, credential: Credential | CallProblem) -> Credential | CallProblem:
        """Give the offline model, which is started where it does not run, its address of the moment."""
        if isinstance(credential, CallProblem) or credential.kind is not ProviderKind.OFFLINE:
            return credential
        try:
            endpoint = offline_endpoint(self._settings_and_credentials()[0])
        except OfflineModelMissing:
            return CallProblem.NOT_INSTALLED
        except OfflineModelFailed:
            return CallProblem.NOT_CONNECTED
        return replace(credential, base_url=endpoint.base_url, key=SecretStr(endpoint.api_key))

    def _call(
        self, question: Question, credential: Credential, watched: Sending, lifeline: Lifeline, seconds: float
    ) -> Answer | CallFailure | Stopped | TimedOut:
        if seconds <= 0:  # the start of the offline model took it all
            return TimedOut()
        try:
            model = self._clients.model(credential, question.action.model.partition(":")[2])
            end = call_loop().run(lambda: ask(model, question, credential, watched), lifeline, seconds)
        except Exception as error:  # noqa: BLE001 - the table knows them; none may go on, for it may quote the prompt
            return failure_of(error, was_handed_over=watched.has_begun)
        return end.value if isinstance(end, Completed) else end

    def _answered(self, record: CallRecord, question: Question, credential: Credential, answer: Answer) -> CallRecord:
        settings, credentials = self._settings_and_credentials()
        text = answer.text.encode("utf-8", "replace")
        return replace(
            record,
            problem=_problem(question, answer, len(text), settings.answer_limit_bytes),
            usage=_usage(question, credential, credentials, answer),
            finish_reason=answer.finish_reason,
            answer_sha256=hashlib.sha256(text).hexdigest(),
            answer_bytes=len(text),
            answer_media_type="text/plain" if question.action.output_schema is None else "application/json",
        )


def _is_available(credential: Credential, settings: Settings) -> bool:
    if credential.kind is ProviderKind.OFFLINE:
        return is_installed(settings)
    package = "anthropic" if credential.kind is ProviderKind.ANTHROPIC else "openai"
    return find_spec("pydantic_ai") is not None and find_spec(package) is not None


def _bound(question: Question, credential: Credential, credentials: Credentials, output_tokens: int) -> CallUsage:
    action = question.action
    name = action.model.partition(":")[2]
    prompt_tokens = most_prompt_tokens(credential, name, question.texts, action.output_schema)
    price = price_of(action.model, action.price, credentials.kinds)
    usd_nano = None if price is None else most_usd_nano(price, prompt_tokens, output_tokens)
    if usd_nano is not None and usd_nano > MAX_USD_NANO:  # no budget could cover it, and no row hold it
        usd_nano = None
    return CallUsage(prompt_tokens, output_tokens, usd_nano=usd_nano, is_estimated=True)


def _usage(question: Question, credential: Credential, credentials: Credentials, answer: Answer) -> CallUsage:
    """What the provider reported; else what was reserved, or where that has no bound one token a byte of the answer."""
    action = question.action
    if answer.is_measured:
        usage = CallUsage(answer.input_tokens, answer.output_tokens, answer.cached_tokens, answer.reasoning_tokens)
        usd_nano = used_usd_nano(action.model, action.price, usage, answer.cache_write_tokens, credentials.kinds)
        if usd_nano is None or usd_nano <= MAX_USD_NANO:
            return replace(usage, usd_nano=usd_nano)
    said = len(answer.text.encode("utf-8", "replace"))
    return _bound(question, credential, credentials, action.max_tokens or said)


def _problem(question: Question, answer: Answer, size: int, limit_bytes: int) -> CallProblem | None:
    schema = question.action.output_schema
    if answer.finish_reason in _FINISH_PROBLEMS:
        return _FINISH_PROBLEMS[answer.finish_reason]
    if size > limit_bytes:
        return CallProblem.ANSWER_TOO_LARGE
    if schema is not None and not keeps_to_schema(answer.text, schema):
        return CallProblem.SCHEMA_VIOLATED
    return None


def _failed(record: CallRecord, failure: CallFailure, watched: Sending) -> CallRecord:
    return replace(
        record,
        problem=CallProblem.ANSWER_TOO_LARGE if watched.is_too_large else failure.problem,
        was_sent=failure.was_sent,
        provider_status=failure.status,
        retry_after_seconds=failure.retry_after_seconds,
    )


def _kept(record: CallRecord, answer: Answer, scratch: Path) -> CallRecord:
    if record.problem is not None:
        return record
    path = scratch / ANSWER_NAME
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(answer.text.encode("utf-8", "replace"))
    return replace(record, answer=path)


def _performance(ended: Ended, record: CallRecord, began: float) -> Performance:
    """The record has the time of the call alone; the work took none if nothing was sent, so that no person is asked."""
    seconds = time.monotonic() - began
    worked = seconds if record.was_sent else 0.0
    return Performance(ended=ended, duration_seconds=worked, call=replace(record, duration_seconds=seconds))
