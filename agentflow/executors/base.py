"""What an executor is, and the lifeline between the heartbeat and a running attempt.

Owns the Executor protocol, the values it takes and gives, the registry over entry points and Lifeline. Does not claim,
settle or touch rows: an executor gets a finished assignment and returns what happened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from agentflow.domain.action import Action
from agentflow.domain.call import CallProblem, CallUsage
from agentflow.domain.error import ConfigurationError
from agentflow.executors.command import Ended, StartProblem, StreamRecord

ENTRY_POINT_GROUP = "agentflow.executors"
_BUILT_IN: Mapping[str, str] = {
    "http": "agentflow.executors.http:HttpExecutor",
    "llm": "agentflow.executors.llm:LlmExecutor",
    "noop": "agentflow.executors.noop:NoopExecutor",
    "notify": "agentflow.executors.notify:NotifyExecutor",
    "python": "agentflow.executors.python:PythonExecutor",
    "subprocess": "agentflow.executors.subprocess:SubprocessExecutor",
}


class StopReason(StrEnum):
    """Why a running attempt is told to stop."""

    CANCELLED = "cancelled"
    DRAINED = "drained"
    PAUSED = "paused"
    LEASE_LOST = "lease_lost"


class Lifeline:
    """Links the heartbeat of a worker process to one running attempt; safe to use from any thread.

    The heartbeat calls ``renew`` after each extension of the lease and ``stop`` when the work must end; the
    executor registers callbacks for both. A callback registered after the fact is called at once.
    """

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self.is_work_done = False
        """Set once the outcome is known: from then on the settle finds out whether the lease still holds."""
        self._lock = threading.Lock()
        self._stop_reason: StopReason | None = None
        self._is_lease_lost = False
        self._is_drained = False
        self._stop_callbacks: list[Callable[[StopReason], None]] = []
        self._renew_callbacks: list[Callable[[float], None]] = []

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the work must end, or None while it may go on."""
        return self._stop_reason

    @property
    def is_lease_lost(self) -> bool:
        """Whether the lease was lost, also where the work had been stopped for another reason before."""
        return self._is_lease_lost

    @property
    def is_drained(self) -> bool:
        """Whether the worker is stopping and waits no longer, also where the work had been stopped before."""
        return self._is_drained

    def stop(self, reason: StopReason) -> None:
        """End the work; the first reason wins."""
        with self._lock:
            self._is_lease_lost = self._is_lease_lost or reason is StopReason.LEASE_LOST
            self._is_drained = self._is_drained or reason is StopReason.DRAINED
            if self._stop_reason is not None:
                return
            self._stop_reason = reason
            callbacks = list(self._stop_callbacks)
        for callback in callbacks:
            callback(reason)

    def renew(self, ttl_seconds: float) -> None:
        """Tell the work that its lease now holds for ``ttl_seconds`` more."""
        with self._lock:
            callbacks = list(self._renew_callbacks)
        for callback in callbacks:
            callback(ttl_seconds)

    def on_stop(self, callback: Callable[[StopReason], None]) -> None:
        """Call ``callback`` once when the work must end."""
        with self._lock:
            self._stop_callbacks.append(callback)
            reason = self._stop_reason
        if reason is not None:
            callback(reason)

    def on_renew(self, callback: Callable[[float], None]) -> None:
        """Call ``callback`` with the seconds left at each renewal of the lease."""
        with self._lock:
            self._renew_callbacks.append(callback)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one attempt may leave behind."""

    output_bytes: int = 64 * 1024 * 1024
    """Kept of each output stream."""
    result_bytes: int = 64 * 1024
    """Of $AGENTFLOW_OUTPUT; one byte more is returned, so that the excess can be seen."""
    artifact_files: int = 1000


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt, ready to be performed."""

    run_id: str
    step_key: str
    attempt: int
    action: Action
    """With every template rendered."""
    scratch: Path
    """The attempt's own directory on a local disk. It exists; ``scratch/work`` may hold files laid in already."""
    timeout_seconds: float
    kill_grace_seconds: float = 5.0
    stdin: Path | None = None
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The action's content, rendered: ``prompt`` and ``system`` of an llm step, ``json`` (its text) of an http step and
    of the arguments of a python step; and ``payload``, what a notify step tells, in counts.
    It is written nowhere; an executor that logs it breaks the house's promise."""
    masks: tuple[str, ...] = ()
    """Secrets that must not appear in anything that is kept of the output."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What of the worker's environment the work may see, see environment.allowed_environment; the action's own
    variables and AGENTFLOW_* come on top of it."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class FoundArtifact:
    """A file that the work registered as an artifact; ``name`` is relative, with ``/``, and unique in the attempt."""

    name: str
    path: Path
    bytes: int
    sha256: str


class Refusal(StrEnum):
    """What was wrong with something that the work left behind; it holds no name, for names may be the work's output."""

    OUTSIDE = "outside"
    """It leads out of the attempt's directories."""
    MISSING = "missing"
    LOOP = "loop"
    """It is a link to itself."""
    NOT_REGULAR = "not_regular"
    UNREADABLE = "unreadable"
    STREAM_NAME = "stream_name"
    """It has the name of the attempt's own stdout or stderr."""
    UNUSABLE_NAME = "unusable_name"
    """Its name is no plain text, or holds a backslash."""
    NAME_IS_FOLDER = "name_is_folder"
    """Its name is also that of a folder with other artifacts."""
    TOO_MANY = "too_many"
    STOPPED = "stopped"
    """The attempt was stopped while it was read."""
    STDOUT_CUT = "stdout_cut"
    """What stdout announced after its limit is not known."""
    STDOUT_REPLACED = "stdout_replaced"
    OUTPUT_NOT_REGULAR = "output_not_regular"
    """$AGENTFLOW_OUTPUT."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An honest upper bound of what an attempt will use, and whom it calls; ``problem`` if it cannot be made at all.

    ``endpoint`` names who is called, for the circuit breaker: the same for all that fail together. ``usd_nano`` is None
    where the price is unknown, ``tokens`` where the answer has no bound.
    """

    endpoint: str | None = None
    tokens: int | None = 0
    usd_nano: int | None = 0
    problem: CallProblem | None = None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What happened in a call: counts, hashes and codes, and where its answer lies, never what was said.

    ``was_sent`` is False only if the request provably never left. ``answer`` is a file of mode 0600 in the scratch
    directory. ``provider_status`` is an HTTP status; ``retry_after_seconds`` is what the other side asked for.
    """

    provider: str
    model: str
    was_sent: bool
    problem: CallProblem | None = None
    usage: CallUsage | None = None
    finish_reason: str | None = None
    provider_status: int | None = None
    retry_after_seconds: float | None = None
    duration_seconds: float = 0.0
    request_sha256: str | None = None
    answer_sha256: str | None = None
    answer: Path | None = None
    answer_bytes: int = 0
    answer_media_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class Performance:
    """What happened in an attempt. Whether that is a success is decided by the engine."""

    ended: Ended
    exit_code: int | None = None
    """124 if it timed out; None if a signal ended it or it was not started."""
    signal: int | None = None
    duration_seconds: float = 0.0
    message: str | None = None
    """What a person should know beside the exit code. It may quote rendered values (another step's output, a path of
    this machine), though no secret: it is never stored and never logged."""
    problem: StartProblem | None = None
    """Why the work was not started, in a word that may be stored."""
    problem_errno: str | None = None
    """The name of the system's error behind ``problem``, such as ENOSPC."""
    stdout: StreamRecord | None = None
    stderr: StreamRecord | None = None
    artifacts: tuple[FoundArtifact, ...] = ()
    output: bytes | None = None
    """What stands in $AGENTFLOW_OUTPUT, masked, at most ``limits.result_bytes`` + 1; None if there is no such file."""
    refusals: Mapping[Refusal, int] = field(default_factory=dict)
    """How often what was wrong with what the work left behind."""
    call: CallRecord | None = None
    """Of an action that calls a model or a service; also of one that was stopped or timed out in its call."""
    raised: str | None = None
    """The class of the exception that ended a python step's function, and nothing else of it."""


class Executor(Protocol):
    """Performs one kind of action. One instance serves all threads of a process."""

    action: str
    """The ``type`` of the actions it performs."""
    queue: str
    """The kind of worker it wants: "commands", "models" or "control"."""

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Do the work and say what happened; what goes wrong with the work is a value, not an error.

        Must end soon after ``lifeline`` is stopped.
        """

    def close(self) -> None:
        """Let go of what is kept between attempts."""


@runtime_checkable
class CallingExecutor(Executor, Protocol):
    """An executor whose attempts go to an endpoint with a circuit breaker.

    Tokens and usd are counted for ``llm`` steps only. What another step says of them is reserved while it runs if its
    run caps steps, and is never charged.
    """

    def estimate(self, assignment: Assignment) -> Estimate:
        """Say what the attempt will use at most, before anything is sent. Must be quick and call nobody."""


_registry_lock = threading.RLock()
_executors: dict[str, Executor] = {}


def executor_for(action: str) -> Executor:
    """Return this process's executor for ``action``, loading it on the first call.

    Raises ConfigurationError if there is none, if two packages offer one, or if a package's executor is broken.
    """
    with _registry_lock:
        if action not in _executors:
            _executors[action] = _load(action)
        return _executors[action]


def use_executor(executor: Executor) -> None:
    """Perform its action with ``executor`` in this process, until ``close_executors``; for tests of plans."""
    with _registry_lock:
        _executors[executor.action] = executor


def load_executor(action: str) -> Executor:
    """Make an executor for ``action`` that is not this process's own. Raises as ``executor_for`` does."""
    return _load(action)


@cache
def known_actions() -> tuple[str, ...]:
    """The actions that this installation has executors for, sorted; nothing is loaded.

    Looked up once a process: reading what every installed package offers costs more than a submission.
    """
    return tuple(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def close_executors() -> None:
    """Close every executor that was loaded; the next call of ``executor_for`` loads afresh."""
    with _registry_lock:
        known_actions.cache_clear()
        loaded = list(_executors.values())
        _executors.clear()
    for executor in loaded:
        executor.close()


def _load(action: str) -> Executor:
    if action in _BUILT_IN:
        module, _, name = _BUILT_IN[action].partition(":")
        return cast("Executor", getattr(import_module(module), name)())
    points = tuple(entry_points(group=ENTRY_POINT_GROUP, name=action))
    offers = {point.value: point for point in points}
    if not offers:
        known = ", ".join(known_actions())
        raise ConfigurationError(
            f"This worker has no executor for the action {action!r} (it has: {known}). Install the package that "
            f"offers it as an entry point of the group {ENTRY_POINT_GROUP!r}.",
            action=action,
        )
    if len(offers) > 1:
        raise ConfigurationError(
            f"More than one package offers an executor for the action {action!r}: {', '.join(sorted(offers))}. "
            "Uninstall all but one.",
            action=action,
        )
    return _load_entry_point(action, points[0])


def _load_entry_point(action: str, point: EntryPoint) -> Executor:
    origin = (
        f"The executor for {action!r} ({point.value}, from {point.dist.name if point.dist else 'an unknown package'})"
    )
    try:
        executor = point.load()()
    except Exception as error:  # another package's code may raise anything; the operator must learn whose it is
        raise ConfigurationError(f"{origin} cannot be loaded: {error}", action=action) from error
    lacking = [name for name in ("action", "queue", "perform", "close") if not hasattr(executor, name)]
    if lacking:
        raise ConfigurationError(f"{origin} is not an executor: it lacks {', '.join(lacking)}", action=action)
    return cast("Executor", executor)
