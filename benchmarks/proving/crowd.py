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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import text

from agentflow import Run
from agentflow.domain.error import ContentError, InvalidTransition, NotFound, ServersUnreachable, StoreMismatch
from agentflow.domain.state import ShownRunState
from proving.ground import Ground
from proving.plans import Shape, Shapes

AWAY = (ServersUnreachable, ContentError, StoreMismatch)
"""What a caller is told while something is broken; it calls again."""
TOO_LATE = (InvalidTransition, NotFound)
"""What a person is told whose view of a run is older than the run."""
AGAIN_SECONDS = 0.5
ENOUGH_TOKENS = 5_000
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
    errors: list[str] = field(default_factory=list)

    def count(self, name: str) -> None:
        """Note that something was done."""
        self.counts[name] = self.counts.get(name, 0) + 1


class Crowd:
    """Works in threads of its own between ``start`` and ``stop``."""

    def __init__(self, ground: Ground, seed: int, runs_a_minute: float) -> None:
        self._ground = ground
        self._flow = ground.flow()
        self._shapes = Shapes(ground, random.Random(f"{seed}:plans"))
        self._pace = random.Random(f"{seed}:pace")
        self._whims = random.Random(f"{seed}:whims")
        self._every = 60 / runs_a_minute
        self._prefix = f"seed-{seed}"
        self._stopping = threading.Event()
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self.submitted: list[Submitted] = []
        self.doings = Doings()

    def start(self) -> None:
        """Begin to submit and to meddle."""
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("producer", self._produce), ("person", self._meddle))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let what is begun come to its end, and begin nothing more."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        """Let go of every connection."""
        self._flow.close()

    def submit_poison(self) -> None:
        """Submit the step that kills its worker each time."""
        self._submit(self._shapes.poison())

    def lift_rests(self) -> int:
        """Do once for every run that rests what lets it go on; returns how many runs have not ended yet.

        What rests over its project's budget stays: no verb raises that.
        """
        waiting = 0
        for run, project in self._open_runs():
            state = run.refresh().state
            if state is ShownRunState.EXHAUSTED and project == "thrift":
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
                run.retry()
                self.doings.count("retry")
            case ShownRunState.EXHAUSTED:
                run.raise_budget(tokens=ENOUGH_TOKENS)
                run.resume()
                self.doings.count("raise and resume")
            case ShownRunState.PAUSED:
                run.resume()
                self.doings.count("resume")
            case _:
                return

    def _open_runs(self) -> Iterator[tuple[Run, str]]:
        with self._ground.runtime.context.database.transaction() as tx:
            rows = tx.execute(text(_OPEN)).all()
        for row in rows:
            yield self._flow.get(row.id), row.project

    def _produce(self) -> None:
        while not self._stopping.wait(self._pace.expovariate(1 / self._every)):
            self._submit(self._shapes.draw())

    def _submit(self, shape: Shape) -> None:
        key = f"{self._prefix}-{next(self._numbers)}-{shape.name}"
        while True:
            try:
                run = self._flow.submit(shape.plan, idempotency_key=key, budget=shape.budget, project=shape.project)
            except AWAY:
                self.doings.count("submit told that a server is away")
                if self._stopping.wait(AGAIN_SECONDS):
                    return
            else:
                self.submitted.append(Submitted(key, shape.name, run))
                return

    def _meddle(self) -> None:
        while not self._stopping.wait(self._whims.uniform(0.3, 1.5)):
            recent = self.submitted[-25:]
            whim, fraction = self._whims.random(), self._whims.random()
            if recent:
                with self._told():
                    self._do(whim, recent[int(fraction * len(recent))].run)

    def _do(self, whim: float, run: Run) -> None:
        state = run.refresh().state
        if whim < 0.08:
            run.cancel()
            self.doings.count("cancel")
        elif state in (ShownRunState.FAILED, ShownRunState.CANCELLED) and whim < 0.4:
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
