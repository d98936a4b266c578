"""The job worker: does beside the answers what takes longer than a request may, each job in a thread of its process.

Owns the signs of life and the end. A job belongs to its process: nobody takes it up again, and its row says by the age
of its last sign that nobody works at it any more. What a job did until then stays done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from agentflow.domain.error import AgentflowError, InvalidTransition
from agentflow.domain.job import JobKind, JobState
from agentflow.engine.context import EngineContext
from agentflow.storage import jobs
from agentflow.storage.database import ConflictingWrite, UnwritableValue
from agentflow.storage.jobs import Ending, JobView, Progress
from agentflow.telemetry import get_logger

log = get_logger(__name__)

BEAT_SECONDS = 2.0
STOP_SECONDS = 3.0
BUG = {"code": "internal", "detail": "A bug of agentflow; its log tells more."}


class _GivenUpError(Exception):
    """The process ends, or somebody took the job for lost."""


@dataclass(slots=True)
class Job:
    """A job under way: what does it tells here how far it has come."""

    id: UUID
    kind: JobKind
    stopping: threading.Event
    progress: Progress = field(default_factory=Progress)
    is_given_up: bool = False
    is_over: threading.Event = field(default_factory=threading.Event)

    def tell(self, done: int, total: int | None = None) -> None:
        """Note how far it has come; to be called between things that may be the last. Ends the job if it is to end."""
        self.progress = Progress(done, total)
        if self.is_given_up or self.stopping.is_set():
            raise _GivenUpError


Work = Callable[[Job], Mapping[str, Any]]
"""Does a job; returns its result."""


class JobWorker:
    """The jobs of one process: ``begin`` one, ``stop`` at the end."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, context: EngineContext, kind: JobKind, asked_by: str, work: Work) -> JobView:
        """Begin a job, and return it at once. InvalidTransition where one of its kind is under way."""
        job = Job(uuid4(), kind, self._stopping)
        with context.database.transaction() as tx:
            if not jobs.begin(tx, job.id, kind, asked_by):
                raise _under_way(kind, jobs.view(tx, kind=kind))
            [begun] = jobs.view(tx, job_id=job.id)
        thread = threading.Thread(target=_do, args=(context, job, work), name=f"job-{kind}", daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()
        return begun

    def stop(self) -> None:
        """End the jobs that are under way where they are; they say so."""
        self._stopping.set()
        until = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


def _under_way(kind: JobKind, known: list[JobView]) -> InvalidTransition:
    running = next((each for each in known if each.state is JobState.RUNNING), None)
    if running is None:
        return InvalidTransition(f"A {kind} was under way, and ended just now: ask again.", kind=kind.value)
    return InvalidTransition(
        f"A {kind} is under way: job {running.id} of {running.asked_by}. Look at it, and ask again when it has ended.",
        kind=kind.value,
        job=str(running.id),
    )


def _do(context: EngineContext, job: Job, work: Work) -> None:
    heart = threading.Thread(target=_beat, args=(context, job), name=f"job-{job.kind}-heart", daemon=True)
    heart.start()
    ending = _ending(job, work)
    job.is_over.set()
    heart.join()
    while not _end(context, job, ending) and not job.stopping.wait(BEAT_SECONDS):
        pass  # Postgres is away; the row says by its age that the job has no end yet
    log.info("job_ended", job=str(job.id), kind=job.kind.value, state=ending.state.value)


def _ending(job: Job, work: Work) -> Ending:
    try:
        return Ending(JobState.DONE, result=work(job))
    except _GivenUpError:
        return Ending(JobState.LOST)
    except AgentflowError as error:
        return Ending(JobState.FAILED, problem={"code": error.code, "detail": str(error)})
    except Exception:  # whatever it is, who asked is told that it failed, and the log why
        log.exception("job_failed", job=str(job.id), kind=job.kind.value)
        return Ending(JobState.FAILED, problem=BUG)


def _beat(context: EngineContext, job: Job) -> None:
    """Say that the job goes on, until it is over; it is given up where the row says that somebody did."""
    while not job.is_over.wait(BEAT_SECONDS):
        try:
            with context.database.transaction() as tx:
                job.is_given_up = not jobs.beat(tx, job.id, job.progress)
        except (AgentflowError, ConflictingWrite) as error:
            log.warning("job_sign_waits", job=str(job.id), error=type(error).__name__)
        except Exception:  # whatever it is, the job goes on, and without its signs somebody takes it for lost
            log.exception("job_sign_waits", job=str(job.id))


def _end(context: EngineContext, job: Job, ending: Ending) -> bool:
    try:
        with context.database.transaction() as tx:
            if not jobs.end(tx, job.id, job.progress, ending):
                log.warning("job_was_given_up", job=str(job.id), kind=job.kind.value)
    except (AgentflowError, ConflictingWrite) as error:
        log.warning("job_end_waits", job=str(job.id), error=type(error).__name__)
        return False
    except UnwritableValue:
        log.exception("job_end_refused", job=str(job.id))
        return _end(context, job, Ending(JobState.FAILED, problem=BUG))
    except Exception:  # whatever it is, Postgres may take the end the next time
        log.exception("job_end_waits", job=str(job.id))
        return False
    return True
