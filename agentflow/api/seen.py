"""What a caller has seen: the tags of what is shown, and ``If-Match``, by which a verb acts on nothing else.

Owns what a tag stands for. A run's changes with everything that is shown of it but the clock; a schedule's with what
was asked for and whether it is stopped, not with each due time. The check is made under the lock of the verb.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header
from pydantic_core import to_json
from sqlalchemy import Connection

from agentflow.api.caller import Caller, Json
from agentflow.client import Run
from agentflow.client.schedule_report import ScheduleReport
from agentflow.domain.error import PreconditionFailed, UsageError
from agentflow.domain.ids import RunId
from agentflow.storage import precondition, schedules
from agentflow.storage.whole_run import read_run

_TAGS = re.compile(r'(W/)?("[\x21\x23-\x7e]*")[ \t]*(?:,[ \t]*|$)', re.ASCII)
"""One tag of several, with what comes behind it and nothing before it: a header is gone through once, however long."""
_OF_THE_CLOCK = ("read_at", "next", "last", "waiting", "held_since", "keeper")


def look(tx: Connection, run_id: RunId) -> tuple[Json, str]:
    """Return what is shown of a run, and its tag: of all but the times that pass while nothing happens.

    The number of its events, which is read first, is in the tag for what is not shown, such as a priority. What comes
    between makes a tag that nothing has again, so that a caller never passes for having seen what it was not shown.
    """
    view = read_run(tx, run_id)
    shown = view.as_json()
    usage = {name: value for name, value in shown["usage"].items() if name != "active_seconds"}
    budget = [line for line in shown["budget"] if line["budget"] != "active_time"]
    return shown, _tag(shown | {"usage": usage, "budget": budget, "tree_usage": None, "events": view.events})


def schedule_tag(shown: Json) -> str:
    """Name what is kept of a schedule, without what the clock makes of it."""
    return _tag({name: value for name, value in shown.items() if name not in _OF_THE_CLOCK})


def _tag(lasting: Json) -> str:
    return f'"{sha256(to_json(lasting)).hexdigest()[:32]}"'


def names(header: str, tag: str, *, is_weak: bool = False) -> bool:
    """Whether a header of tags names one; ``is_weak`` lets what a cache calls alike pass for it."""
    if header.strip() == "*":
        return True
    found = [(weak, each) for weak, each in _TAGS.findall(header)]
    return any(each == tag and (is_weak or not weak) for weak, each in found)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a caller says it has seen; without the header anything will do."""

    header: str | None

    @contextmanager
    def of_run(self, caller: Caller, reference: str, *, is_looked_at: bool = True) -> Iterator[Run]:
        """Let verbs of the block act on a run only as it was seen. Raises PreconditionFailed.

        ``is_looked_at`` looks before the verb too; not for one that has its own answer to who asks again.
        """
        run = caller.run(reference)
        if self.header is None:
            yield run
            return

        def check(tx: Connection) -> None:
            self._compare(look(tx, RunId(run.uuid))[1])

        if is_looked_at:
            with caller.flow.context.database.autocommit() as tx:
                check(tx)  # what is refused for another reason must not hide it
        with precondition.only_if(run.uuid, check):
            yield run

    @contextmanager
    def of_schedule(self, report: ScheduleReport) -> Iterator[None]:
        """Let verbs of the block act on a schedule only as it was seen. Raises PreconditionFailed."""
        self._compare(schedule_tag(report.as_json()))
        with self.of_place(report.schedule.project, report.name):
            yield

    @contextmanager
    def of_place(self, project: str, name: str, *, is_free: bool = False) -> Iterator[None]:
        """Let verbs of the block act on what has a schedule's name only as it was seen, or, ``is_free``, on nothing.

        Raises PreconditionFailed, also where the schedule that was seen is gone.
        """
        if self.header is None and not is_free:
            yield
            return

        def check(tx: Connection) -> None:
            there = [schedule_tag(ScheduleReport(view, None).as_json()) for view in schedules.view(tx, project, name)]
            if is_free and there:
                raise PreconditionFailed(f"There is a schedule {name} in project {project}.", etag=there[0])
            if self.header is not None:
                self._compare(there[0] if there else None)

        with precondition.only_if(schedules.subject_of(project, name), check):
            yield

    def _compare(self, tag: str | None) -> None:
        if self.header is not None and (tag is None or not names(self.header, tag)):
            raise PreconditionFailed("It is not as you saw it any more: look again, and decide anew.", etag=tag)


def _seen(
    if_match: Annotated[
        str | None, Header(description="Do it only if the ETag of what is acted on is this one; else 412.")
    ] = None,
) -> Seen:
    if if_match is not None and if_match.strip() != "*" and _TAGS.sub("", if_match).strip():
        raise UsageError('If-Match takes ETags as they were answered, such as "0f3a...", in quotes, or *.')
    return Seen(if_match)


AsSeen = Annotated[Seen, Depends(_seen)]
