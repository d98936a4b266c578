"""The client's verbs on schedules: ``flow.schedules``. They keep when stored plans run by themselves; beat runs them.

Owns the way from what a caller writes to the engine's values. Times without an offset are local to the schedule's zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from agentflow.client.checks import checked_actor, checked_name, read_stored_name
from agentflow.client.connection import Connected
from agentflow.client.page import MAX_PAGE
from agentflow.client.plan import Budget, plain
from agentflow.client.schedule_report import FiringPage, ScheduleReport
from agentflow.domain.error import NotFound, UsageError
from agentflow.domain.schedule_document import WrittenSchedule, read_moment
from agentflow.engine.backfill import Backfilled, backfill
from agentflow.engine.create_schedule import ScheduleRequest, create_schedule, examine_schedule
from agentflow.engine.delete_schedule import delete_schedule
from agentflow.engine.enable_schedule import pause_schedule, resume_schedule
from agentflow.engine.replace_schedule import Replaced, replace_schedule
from agentflow.engine.run_schedule import run_schedule
from agentflow.engine.scheduler import SERVICE
from agentflow.storage import schedules
from agentflow.storage.schedules import FiringView, ScheduleView

Duration = str | timedelta
Moment = str | datetime


class ScheduleKeeping(Connected):
    """What has schedules."""

    @property
    def schedules(self) -> Schedules:
        """The schedules of the installation."""
        return Schedules(self)


class Schedules:
    """The schedules of an installation. The project of each is the one given, else the settings'."""

    def __init__(self, flow: Connected) -> None:
        self._flow = flow

    def create(
        self,
        name: str,
        plan: str,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        at: Moment | None = None,
        start: Moment | None = None,
        time_zone: str = "UTC",
        jitter: Duration = "0s",
        overlap: str = "skip",
        queue_depth: int = 1,
        catch_up: Duration = "10m",
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the plan format's own name
        budget: Budget | Mapping[str, Any] | None = None,
        directive: str | None = None,
        project: str | None = None,
        is_enabled: bool = True,
        is_dry: bool = False,
        is_replacing: bool = False,
    ) -> ScheduleReport:
        """Keep when a stored plan (``triage``, or ``triage@2``) runs: by one of ``cron``, ``every`` and ``at``.

        ``every`` counts from ``start``, else from now. ``overlap`` is skip, queue (up to ``queue_depth``),
        cancel-previous or allow. What fell due while no beat ran fires if that is no longer ago than ``catch_up``.
        ``is_dry`` only examines; ``is_replacing`` puts it in the place of one of its name, if there is one. UsageError
        with every fault at once (``details["problems"]``).
        """
        due, pace = (cron, _text(every), _text(at), _text(start), time_zone), (str(_text(jitter)), overlap, queue_depth)
        written = WrittenSchedule(str(name), *due, *pace, str(_text(catch_up)))
        request = self._request(written, plan, project, vars, budget, directive, is_enabled=is_enabled)
        schedule = examine_schedule(context := self._context(), request)
        if is_dry:
            return ScheduleReport(ScheduleView(schedule), self._keeper())
        kept = replace_schedule(context, request, schedule) if is_replacing else Replaced(is_new=True)
        if not is_replacing:
            create_schedule(context, schedule, request.actor)
        return replace(self.get(schedule.name, project=schedule.project), kept=kept)

    def list(self, *, project: str | None = None) -> list[ScheduleReport]:
        """Return the schedules of one project, or of all, by name."""
        with self._flow._reading() as tx:  # noqa: SLF001 - a part of the client
            found, keeper = schedules.view(tx, project), schedules.read_keeper(tx, SERVICE)
        return [ScheduleReport(each, keeper) for each in found]

    def get(self, name: str, *, project: str | None = None) -> ScheduleReport:
        """Return a schedule, with its next due times. NotFound when there is none of that name."""
        return ScheduleReport(self._view(name, project), self._keeper())

    def pause(self, name: str, *, project: str | None = None) -> int | None:
        """Stop a schedule; returns how many waiting firings were skipped for it, None if it was stopped already."""
        return pause_schedule(self._context(), self._project(project), name, self._actor())

    def resume(self, name: str, *, project: str | None = None) -> bool:
        """Let a schedule fire from its next due time on; False if it does already."""
        return resume_schedule(self._context(), self._project(project), name, self._actor())

    def run_now(self, name: str, *, project: str | None = None) -> FiringView:
        """Fire a schedule at once, due or not; its overlap holds. Raises InvalidTransition where that is skip."""
        return run_schedule(self._context(), self._project(project), name, self._actor())

    def backfill(
        self, name: str, since: Moment, until: Moment | None = None, *, project: str | None = None, is_dry: bool = False
    ) -> Backfilled:
        """Queue the due times of the past from ``since`` to ``until`` (now) that have no run; they run one by one.

        ``is_dry`` only tells which. UsageError for more than 1000, and for a time that is yet to come.
        """
        view = self._view(name, project)
        zone = ZoneInfo(view.schedule.time_zone)
        first = _moment("since", since, zone)
        last = view.schedule.at if until is None else _moment("until", until, zone)
        owner = view.schedule.project
        return backfill(self._context(), owner, name, first, last, self._actor(), is_dry=is_dry)

    def delete(self, name: str, *, project: str | None = None) -> None:
        """Forget a schedule and what became of its due times; its runs stay."""
        delete_schedule(self._context(), self._project(project), name, self._actor())

    def history(
        self, name: str, *, limit: int = 50, cursor: str | None = None, project: str | None = None
    ) -> FiringPage:
        """Return up to ``limit`` (at most 1000) firings, the latest due time first, from ``cursor`` on."""
        if not 0 < limit <= MAX_PAGE:
            raise UsageError(f"A page has 1 to {MAX_PAGE} firings, not {limit}.")
        before = None if cursor is None else read_moment(cursor, None)
        if cursor is not None and before is None:
            raise UsageError("The cursor is none of agentflow's: use next_cursor of the page before.")
        schedule = self._view(name, project).schedule
        with self._flow._reading() as tx:  # noqa: SLF001 - a part of the client
            found = schedules.view_firings(tx, schedule.id, limit + 1, before)
        return FiringPage(schedule, tuple(found[:limit]), is_last=len(found) <= limit)

    def _request(
        self,
        written: WrittenSchedule,
        plan: str,
        project: str | None,
        given: Mapping[str, Any] | None,
        budget: Budget | Mapping[str, Any] | None,
        directive: str | None,
        *,
        is_enabled: bool,
    ) -> ScheduleRequest:
        plan_name, version = read_stored_name(plan)
        return ScheduleRequest(
            written,
            project=self._project(project),
            plan_name=plan_name,
            plan_version=version,
            vars={key: plain(value) for key, value in (given or {}).items()},
            actor=self._actor(),
            budget=None if budget is None else plain(budget),
            directive=None if directive is None else checked_name("directive", directive),
            is_enabled=is_enabled,
        )

    def _view(self, name: str, project: str | None) -> ScheduleView:
        owner = self._project(project)
        with self._flow._reading() as tx:  # noqa: SLF001 - a part of the client
            found = schedules.view(tx, owner, name)
        if not found:
            raise NotFound(f"There is no schedule {name} in project {owner}; see `agentflow schedule list`.", name=name)
        return found[0]

    def _keeper(self) -> str | None:
        with self._flow._reading() as tx:  # noqa: SLF001 - a part of the client
            return schedules.read_keeper(tx, SERVICE)

    def _context(self) -> Any:
        return self._flow._checked_context()  # noqa: SLF001 - a part of the client

    def _project(self, given: str | None) -> str:
        return checked_name("project", given or self._flow.settings.project)

    def _actor(self) -> str:
        return checked_actor(self._flow.settings.actor)


def _text(value: Duration | Moment | None) -> str | None:
    match value:
        case None | str():
            return value
        case datetime():
            return value.isoformat()
        case _:
            return str(plain(value))


def _moment(name: str, value: Moment, zone: ZoneInfo) -> datetime:
    found = read_moment(value if isinstance(value, str) else value.isoformat(), zone)
    if found is None:
        raise UsageError(f"{name}: {str(value)[:80]!r} is no time; write one such as 2026-12-01T06:00.")
    return found
