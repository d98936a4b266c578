"""The fixture's face: what a test says beforehand, running a plan, and the run that it looks at.

Owns how one test's parts are put together and taken apart. Playing is player.py's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeAlias, Unpack
from uuid import UUID

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from agentflow.client import AgentFlow, Plan
from agentflow.client.run import Run
from agentflow.client.stored import loaded_of
from agentflow.client.submission import SubmitOptions
from agentflow.domain.action import RunAction
from agentflow.domain.call import CallProblem
from agentflow.domain.duration import parse_duration
from agentflow.domain.ids import RunId
from agentflow.domain.plan import Plan as DomainPlan
from agentflow.domain.wording import did_you_mean
from agentflow.engine.load_plan import LoadedPlan, load_data
from agentflow.executors.base import Executor, close_executors, known_actions, use_executor
from agentflow.executors.python import PythonExecutor
from agentflow.settings import Settings
from agentflow.testing.calls import Call, CallBook
from agentflow.testing.clock import Clock
from agentflow.testing.connections import REDIS_URL, Doorbells, InProcessRedis, InProcessRuntime
from agentflow.testing.forcing import Failure, Failures, forced
from agentflow.testing.http_stub import HttpStub, Services, StubbedHttpExecutor, StubbedNotifyExecutor
from agentflow.testing.model_stub import Models, ModelStub, StubbedLlmExecutor
from agentflow.testing.people import Advance, Decision, People
from agentflow.testing.player import Player
from agentflow.testing.script import RehearsalError
from agentflow.testing.stage import Stage

AUTHOR = "author@rehearsal"
MAX_EXIT_CODE = 255

GivenPlan: TypeAlias = Plan | LoadedPlan | Mapping[str, Any] | str | Path
"""A plan as a test gives it: built, loaded, a document as a file would have it, or a path."""


class RehearsedRun(Run):
    """A run in a rehearsal: what a run is to a client, with the calls that it made. ``wait`` plays it on."""

    def __init__(self, rehearsal: Rehearsal, run_id: RunId) -> None:
        super().__init__(rehearsal.flow, run_id)
        self._rehearsal = rehearsal

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls of its steps, and of its child runs' steps, in their order."""
        ids = _ids_of(self)
        return tuple(call for call in self._rehearsal.calls if call.run_id in ids)

    def wait(self, timeout: float | None = None, *, raise_on_failure: bool = False) -> RehearsedRun:
        """Play the run on until it has ended or rests. Raises RunFailed if asked to, unless it completed."""
        self._rehearsal.play(self)
        super().wait(timeout, raise_on_failure=raise_on_failure)
        return self


class RehearsedFlow(AgentFlow):
    """The client that a plan's own Python code is given in a test: its runs go on in ``wait``, and nowhere else."""

    def __init__(self, rehearsal: Rehearsal, settings: Settings, runtime: InProcessRuntime) -> None:
        super().__init__(settings)
        self._runtime = runtime
        self._rehearsal = rehearsal

    def submit(self, plan: GivenPlan, *given: Any, **options: Any) -> RehearsedRun:
        """Accept a plan as a run, as the real client does."""
        submitted = super().submit(self._rehearsal.find(plan), *given, **options)
        run = RehearsedRun(self._rehearsal, RunId(submitted.uuid))
        run.existing, run.is_sent = submitted.existing, submitted.is_sent
        return run

    def get(self, reference: str | UUID, *, project: str | None = None) -> RehearsedRun:
        """Return a run, as the real client does."""
        return RehearsedRun(self._rehearsal, RunId(super().get(reference, project=project).uuid))


class Rehearsal:
    """One test's installation of agentflow, in process. Say what is to happen, then ``run`` a plan."""

    def __init__(self, stage: Stage, given: Mapping[str, Any], home: Path, folder: Path) -> None:
        """Make it under ``home``; plans that are relative paths are looked for in ``folder`` first."""
        self._stage, self._given, self._home, self._folder = stage, given, home, folder
        self._book, self._models, self._services = CallBook(), Models(), Services()
        self._failures, self._people = Failures(self._book), People()
        self._signals: list[tuple[str, Any]] = []
        self._open = ExitStack()
        self.flow: RehearsedFlow
        """A client of this installation, for code that is given one."""

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._home.mkdir(parents=True, exist_ok=True)
            url = self._stage.new_database(self._home / "content")
            opening.callback(self._stage.drop, url)
            clock = Clock(url)
            opening.callback(clock.close)
            settings = _settings(self._given, url, self._home, self._stage.audit_key)
            runtime = InProcessRuntime(settings, InProcessRedis(clock))
            opening.callback(runtime.close)
            self._use_executors(settings, opening)
            doorbells = Doorbells(runtime.celery)
            opening.callback(doorbells.close)
            self.flow = RehearsedFlow(self, settings, runtime)
            self._player = Player(runtime, clock, doorbells, self._people, self._book)
            opening.callback(self._player.close)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def model(self, name: str) -> ModelStub:
        """Say what a model answers; ``name`` is one as a plan writes it, or a pattern such as ``openai:*``."""
        return self._models.stub(name)

    def http(self, url: str, *, method: str | None = None) -> HttpStub:
        """Say what a service answers at a url, or at all that fit a pattern such as ``https://api.example.org/*``."""
        return self._services.stub(url, method)

    def fail(
        self,
        step: str,
        *,
        times: int | None = 1,
        exit_code: int = 1,
        message: str = "",
        problem: str | None = None,
        timed_out: bool = False,
        lost: bool = False,
    ) -> None:
        """Fail the next attempts of a step, so many, or all with None; its own retry policy decides what follows.

        ``exit_code`` (1 to 255) and ``message`` (what it wrote to stderr) are a command's; ``problem``, such as
        ``"unavailable"``, is a call's; ``timed_out`` and ``lost`` (its worker died) any step's. One item of a foreach
        is named as in ``count[1].read``.
        """
        found = next((each for each in CallProblem if each == problem), None)
        if problem is not None and found is None:
            raise RehearsalError(
                f"A call cannot fail as {problem!r}: {did_you_mean(problem, [each.value for each in CallProblem])}"
            )
        if type(exit_code) is not int or not 1 <= exit_code <= MAX_EXIT_CODE:  # a bool is none
            raise RehearsalError(f"A command fails with an exit code from 1 to {MAX_EXIT_CODE}, not {exit_code!r}.")
        failure = Failure(exit_code, message, found, is_timed_out=timed_out, is_lost=lost)
        self._failures.force(step, failure, times)

    def approves(
        self, step: str, *, by: str | Sequence[str] = (), why: str | None = None, form: Mapping[str, Any] | None = None
    ) -> None:
        """Have the next gate of a step approved, by those named, else by as many as it needs of those who may."""
        self._people.add(Decision(step, True, _names(by), why, dict(form or {})))

    def rejects(self, step: str, *, by: str = "", why: str | None = None) -> None:
        """Have the next gate of a step rejected."""
        self._people.add(Decision(step, False, _names(by), why))

    def signal(self, name: str, data: Any = None) -> None:
        """Send the next run a signal; it is kept for the step that waits for it."""
        self._signals.append((name, data))

    def advance(self, duration: str | timedelta) -> None:
        """Let time pass, such as ``"1h"``, once the run rests: gates and signals nobody gives run out of time.

        What goes on by itself, a retry or ``wait: {for: 1d}``, needs no word: it is leapt over.
        """
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else parse_duration(duration)
        self._people.add(Advance(seconds))

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls of all runs, in their order."""
        return self._book.calls

    def run(
        self,
        plan: GivenPlan,
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the plan format's own name
        *,
        project: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> RehearsedRun:
        """Submit a plan, built, loaded, a document or a path, and play it until it has ended or rests.

        Raises what a submit raises, and RehearsalError for what the test says wrongly, or does not say.
        """
        loaded = loaded_of(self.find(plan))
        self._check(loaded)
        run = self.flow.submit(loaded, vars, project=project, **options)
        signals, self._signals = self._signals, []
        for name, data in signals:
            run.signal(name, data)
        return run.wait()

    def play(self, run: Run) -> None:
        """Go on with a run until it has ended or rests."""
        self._player.play(self.flow, run)
        run.refresh()

    def find(self, plan: GivenPlan) -> Plan | LoadedPlan | Path:
        """Return a plan, or where it is: beside the test, else from the current directory.

        A document has its files beside the test. Raises PlanRejected.
        """
        if isinstance(plan, Mapping):
            return load_data(plan, self._folder, available_actions=known_actions())
        if not isinstance(plan, str | Path):
            return plan
        beside = self._folder / plan
        return beside if beside.exists() else Path(plan)

    def _check(self, loaded: LoadedPlan) -> None:
        known = _steps_of(loaded)
        if known is not None:
            self._failures.check(known)
            self._people.check(known)

    def _use_executors(self, settings: Settings, opening: ExitStack) -> None:
        stubs: list[Executor] = [
            StubbedLlmExecutor(settings, self._models, self._book),
            StubbedHttpExecutor(settings, self._services, self._book),
            StubbedNotifyExecutor(settings, self._book),
            PythonExecutor(settings.python_calls),
        ]
        stubbed = {stub.action: stub for stub in stubs}
        for stub in stubs:
            opening.callback(stub.close)
        opening.callback(close_executors)
        for action in known_actions():
            use_executor(forced(stubbed.get(action) or self._stage.executor(action), self._failures))


class _GivenSettings(Settings):
    """Settings of a test alone: neither the environment nor a configuration file has a say."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **_others: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _settings(given: Mapping[str, Any], url: str, home: Path, audit_key: bytes) -> Settings:
    unknown = [name for name in given if name not in Settings.model_fields]
    if unknown:
        raise RehearsalError(f"There is no setting {unknown[0]!r}: {did_you_mean(unknown[0], Settings.model_fields)}")
    own = {
        "home": home,
        "content_dir": home / "content",
        "database_url": SecretStr(url),
        "redis_url": SecretStr(REDIS_URL),
        "audit_key": SecretStr(audit_key.decode()),
    }
    try:
        return _GivenSettings(**{"actor": AUTHOR, **given, **own})
    except ValidationError as error:
        raise RehearsalError(f"The fixture agentflow_settings gives what cannot be: {error}") from None


def _names(by: str | Sequence[str]) -> tuple[str, ...]:
    return (by,) if isinstance(by, str) and by else tuple(by)


def _ids_of(run: Run) -> set[str]:
    children = [child for group in run.children.values() for child in group]
    return {run.id}.union(*map(_ids_of, children))


def _steps_of(loaded: LoadedPlan) -> Collection[str] | None:
    """The ids of the steps of a plan and of the plans below it; None where one of those is not at hand."""
    found: set[str] = set()
    plans = [loaded.plan]
    for plan in plans:
        found |= {step.id for step in plan.every_step}
        for action in (step.action for step in plan.every_step):
            if isinstance(action, RunAction):
                below = loaded.brought.get(action.fingerprint or "")
                if not isinstance(below, bytes):
                    return None
                plans.append(DomainPlan.model_validate_json(below))
    return found
