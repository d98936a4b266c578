"""The crowd: a producer that submits at random moments, and a person who cancels, retries, resumes and raises budgets.

Both use the Python client, as a user's program would: a call that finds a server away is made again under the same
idempotency key. Any other error of a verb is a finding.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import text

from agentflow import Run
from agentflow.domain.error import ContentError, InvalidTransition, NotFound, ServersUnreachable, StoreMismatch
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import ShownRunState
from proving.ground import Ground
from proving.plans import SCHEDULED_PLAN, SIGNAL, THRIFTY_PROJECT, Shape, Shapes

AWAY = (ServersUnreachable, ContentError, StoreMismatch)
"""What a caller is told while something is broken; it calls again."""
TOO_LATE = (InvalidTransition, NotFound)
"""What a person is told whose view of a run is older than the run."""
AGAIN_SECONDS = 0.5
ENOUGH_TOKENS = 5_000
SIGNS, BEGIN_SECONDS = 20, 15.0
SCHEDULES = {"allowing": "allow", "queueing": "queue", "skipping": "skip"}
"""The schedules by name, each with what it does where runs overlap."""
SCHEDULE_SECONDS = 5
_OPEN = """SELECT run.id, run.project FROM run JOIN run_state ON run_state.run_id = run.id
           WHERE run_state.ended_at IS NULL ORDER BY run.created_at"""


@dataclass(eq=False)
class Submitted:
    """A run that was accepted, and under which key."""

    key: str
    shape: str
    run: Run


@dataclass
class Doings:
    """How often a person did what, and what went wrong."""

    counts: dict[str, int] = field(default_factory=dict)
    longest_submit: float = 0.0
    """How many seconds a submit took at most that was accepted."""
    errors: list[str] = field(default_factory=list)

    def count(self, name: str) -> None:
        """Note that something was done."""
        self.counts[name] = self.counts.get(name, 0) + 1


class Crowd:
    """Works in threads of its own between ``start`` and ``stop``."""

    def __init__(
        self,
        ground: Ground,
        seed: int,
        runs_a_minute: float,
        *,
        shapes: Sequence[str] = (),
        most_runs: int | None = None,
    ) -> None:
        """``shapes`` are the kinds of plans to draw from, all without; after ``most_runs`` nothing is submitted."""
        self._ground = ground
        self._flow = ground.flow()
        self._shapes = Shapes(ground, random.Random(f"{seed}:plans"), shapes)
        self._most_runs = most_runs
        self._pace = random.Random(f"{seed}:pace")
        self._whims = random.Random(f"{seed}:whims")
        self._every = 60 / runs_a_minute
        self._prefix = f"seed-{seed}"
        self._stopping = threading.Event()
        self._numbers = itertools.count()
        self._poison = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self.submitted: list[Submitted] = []
        self.doings = Doings()

    def keep_schedules(self) -> None:
        """Store a plan and have it run by schedules, which overlap as they may."""
        self._flow.push(self._shapes.scheduled())
        for name, overlap in SCHEDULES.items():
            self._flow.schedules.create(name, SCHEDULED_PLAN, every=f"{SCHEDULE_SECONDS}s", overlap=overlap)

    def stop_schedules(self) -> None:
        """Let no schedule fire any more, as soon as Postgres takes that."""
        for name in SCHEDULES:
            while True:
                with self._told():
                    self._flow.schedules.pause(name)
                    break

    def start(self, *, has_person: bool = True) -> None:
        """Begin to submit and, with a person, to meddle."""
        works = {"producer": self._produce} | ({"person": self._meddle} if has_person else {})
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True) for name, work in works.items()
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_at_work(self, look: Callable[[], Sequence[object]]) -> None:
        """Wait until some commands have given a sign of life, so that there is something to break."""
        deadline = time.monotonic() + BEGIN_SECONDS
        while len(look()) < SIGNS and time.monotonic() < deadline:
            time.sleep(AGAIN_SECONDS)

    def stop(self) -> None:
        """Let what is begun come to its end, and begin nothing more."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        """Let go of every connection."""
        self._flow.close()

    def ask_for_poison(self) -> None:
        """Have the producer submit a step that kills its worker each time, as soon as it can."""
        self._poison.release()

    def lift_rests(self) -> int:
        """Do once for every run that rests what lets it go on; returns how many runs have not ended yet.

        What rests over its project's budget stays: no verb raises that.
        """
        with self._told():
            self._flow.resume_all()  # also where it was broken off: it ends what is left of it
        waiting = 0
        for run, project in self._open_runs():
            state = run.refresh().state
            if state is ShownRunState.EXHAUSTED and project == THRIFTY_PROJECT:
                continue
            waiting += 1
            with self._told():
                self._lift(run, state)
        return waiting

    def resting(self) -> list[tuple[str, str]]:
        """The runs that have not ended, each with its shown state."""
        return [(run.id, f"{run.refresh().state}") for run, _ in self._open_runs()]

    def _lift(self, run: Run, state: ShownRunState) -> None:
        match state:
            case ShownRunState.WAITING:
                self._answer(run)
            case ShownRunState.EXHAUSTED:
                run.raise_budget(tokens=ENOUGH_TOKENS)
                run.resume()
                self.doings.count("raise and resume")
            case ShownRunState.PAUSED:
                self._resume(run)
                self.doings.count("resume")
            case _:
                return

    def _answer(self, run: Run) -> None:
        """Give a waiting run what it waits for."""
        awaited = {step.id: (step.reason or {}).get("code") for step in run.steps.values() if step.state == "held"}
        for key, code in awaited.items():
            match code:
                case ReasonCode.AWAITS_DECISION:
                    run.approve(key)
                    self.doings.count("approve")
                case ReasonCode.AWAITS_SIGNAL:
                    run.signal(SIGNAL)
                    self.doings.count("signal")
                case ReasonCode.AWAITS_PERSON:
                    run.retry(key)
                    self.doings.count("retry")
                case _:  # it goes on by itself
                    continue

    def _resume(self, run: Run) -> None:
        """Let a paused run go on; one that is exhausted beside it needs more first."""
        try:
            run.resume()
        except InvalidTransition as refused:
            if "exhausted" not in refused.details:
                raise
            run.raise_budget(tokens=ENOUGH_TOKENS)
            run.resume()

    def _open_runs(self) -> Iterator[tuple[Run, str]]:
        with self._ground.runtime.context.database.transaction() as tx:
            rows = tx.execute(text(_OPEN)).all()
        for row in rows:
            yield self._flow.get(row.id), row.project

    def _produce(self) -> None:
        """Submit at moments of its own: what an outage held up comes in a flood after it."""
        due = time.monotonic()
        while len(self.submitted) != self._most_runs:
            due += self._pace.expovariate(1 / self._every)
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            self._submit(self._shapes.poison() if self._poison.acquire(blocking=False) else self._shapes.draw())

    def _submit(self, shape: Shape) -> None:
        began = time.monotonic()
        key = f"{self._prefix}-{next(self._numbers)}-{shape.name}"
        while True:
            try:
                run = self._flow.submit(shape.plan, idempotency_key=key, budget=shape.budget, project=shape.project)
            except AWAY:
                self.doings.count("submit told that a server is away")
                if self._stopping.wait(AGAIN_SECONDS):
                    return
                began = time.monotonic()
            else:
                self.submitted.append(Submitted(key, shape.name, run))
                self.doings.longest_submit = max(self.doings.longest_submit, time.monotonic() - began)
                return

    def _meddle(self) -> None:
        while not self._stopping.wait(self._whims.uniform(0.3, 1.5)):
            recent = self.submitted[-25:]
            whim, fraction = self._whims.random(), self._whims.random()
            if recent:
                with self._told():
                    self._do(whim, recent[int(fraction * len(recent))].run)

    def _do(self, whim: float, run: Run) -> None:
        """Do what a whim between 0 and 1 says; from 0.7 on nothing."""
        state = run.refresh().state
        if whim < 0.05:
            run.cancel()
            self.doings.count("cancel")
        elif whim < 0.17:
            run.pause(now=whim < 0.1)
            self.doings.count("pause --now" if whim < 0.1 else "pause")
        elif whim < 0.18:
            self._flow.pause_all(now=self._whims.random() < 0.5)
            self.doings.count("maintenance")
        elif whim < 0.22 and self._flow.maintenance():
            self._flow.resume_all()
            self.doings.count("maintenance ended")
        elif whim < 0.26:
            key = f"{self._prefix}-fork-{next(self._numbers)}"
            forked = self._flow.fork(run, self._whims.choice(list(run.steps)), idempotency_key=key)
            self.submitted.append(Submitted(key, "fork", forked))
            self.doings.count("fork")
        elif whim < 0.4 and state in (ShownRunState.FAILED, ShownRunState.CANCELLED):
            run.retry()
            self.doings.count("retry")
        elif whim < 0.7:
            self._lift(run, state)

    def _told(self) -> _Told:
        return _Told(self.doings)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001 - a verb that raises what it does not document is a finding
            self.doings.errors.append(traceback.format_exc())


class _Told:
    """Takes what a verb may answer while something is broken; anything else it writes down."""

    def __init__(self, doings: Doings) -> None:
        self._doings = doings

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if isinstance(error, AWAY):
            self._doings.count("person told that a server is away")
            time.sleep(AGAIN_SECONDS)  # nothing signals that it is back
            return True
        if isinstance(error, TOO_LATE):
            self._doings.count("person told that it is too late")
            return True
        if isinstance(error, Exception):
            self._doings.errors.append("".join(traceback.format_exception(error)))
            return True
        return False
