"""The pages about schedules: one with its next due times, the list, and what became of due times.

Owns what stands on them. The figures are the client's.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.client.schedule_report import FiringPage, ScheduleReport
from agentflow.domain.budget import BudgetKind
from agentflow.domain.duration import format_duration
from agentflow.domain.schedule import FiringState, IntervalTiming, OnceTiming, Overlap, Timing
from agentflow.domain.shortfall import cap_of, written
from agentflow.domain.wording import listing
from agentflow.engine.backfill import Backfilled
from agentflow.storage.schedules import FiringView

STATE_STYLES = {
    FiringState.STARTED: "green",
    FiringState.QUEUED: "cyan",
    FiringState.SKIPPED: "yellow",
    FiringState.MISSED: "bold yellow",
    FiringState.REFUSED: "bold red",
}
LISTED = 20
"""How many due times of a backfill the page lists."""


def schedule_page(report: ScheduleReport) -> RenderableType:
    """Return the page of one schedule."""
    schedule, view = report.schedule, report.view
    facts = [
        ("schedule", f"{schedule.name} (project {schedule.project})"),
        ("runs", schedule.plan_name + (f"@{schedule.plan_version}" if schedule.plan_version else ", newest version")),
        ("due", when(schedule.timing, schedule.time_zone)),
        ("overlap", schedule.overlap + (f", {schedule.max_queued} deep" if schedule.overlap is Overlap.QUEUE else "")),
        ("jitter", format_duration(schedule.pace.jitter_seconds) if schedule.pace.jitter_seconds else ""),
        ("catch-up", format_duration(schedule.pace.catch_up_seconds)),
        ("vars", words.printable(", ".join(f"{name}={value}" for name, value in schedule.vars.items()))),
        ("budget", _budget(report)),
        ("directive", schedule.directive or ""),
        ("stopped", "" if schedule.is_enabled else f"yes: agentflow schedule resume {schedule.name}"),
        ("held up", f"a run of it rests, since {words.moment(schedule.held_since)} UTC" if schedule.held_since else ""),
        ("waiting", str(view.waiting) if view.waiting else ""),
        ("last", "" if view.last_due_at is None else f"{words.moment(view.last_due_at)} UTC {view.last_state}"),
    ]
    table = _table("", "")
    table.show_header = False
    for name, value in facts:
        if value:
            table.add_row(Text(name, "dim"), value)
    return Group(table, Text(), _next_times(report), *_warnings([report]))


def kept_line(report: ScheduleReport) -> str:
    """Say what became of a schedule that was to be kept."""
    kept, name = report.kept, report.schedule.name
    if kept is None:
        return f"Schedule {name} would do: nothing was kept."
    if kept.is_new:
        return f"Schedule {name} is made."
    if not kept.changed:
        return f"Schedule {name} is so already: nothing was changed."
    skipped = f"; {kept.skipped} that waited {'was' if kept.skipped == 1 else 'were'} skipped" if kept.skipped else ""
    return f"Schedule {name} is replaced: {listing(kept.changed)} changed{skipped}."


def schedules_page(reports: Sequence[ScheduleReport]) -> RenderableType:
    """Return the list."""
    if not reports:
        return Text("No schedules. Keep one: agentflow schedule create NAME --plan PLAN --cron '0 6 * * 1-5'")
    table = _table("schedule", "project", "plan", "due", "next (UTC)", "last")
    for report in reports:
        schedule, dues = report.schedule, report.next(1)
        following = words.moment(dues[0].at) if dues else "never again"
        table.add_row(
            schedule.name,
            schedule.project,
            schedule.plan_name + (f"@{schedule.plan_version}" if schedule.plan_version else ""),
            when(schedule.timing, schedule.time_zone),
            following if schedule.is_enabled else Text("stopped", "yellow"),
            "held up" if schedule.held_since else report.view.last_state or "",
        )
    return Group(table, *_warnings(reports))


def history_page(page: FiringPage) -> RenderableType:
    """Return what became of due times."""
    if not page.firings:
        return Text("It was not due yet.")
    table = _table("due (UTC)", "cause", "", "run", "", "why")
    for firing in page.firings:
        table.add_row(
            words.moment(firing.due_at),
            firing.cause.replace("_", " "),
            Text(firing.state, STATE_STYLES.get(firing.state, "")),
            words.short_id(firing.run_id) if firing.run_id else "",
            Text(firing.run_state or "", words.STATE_STYLES.get(firing.run_state or "", "")),
            _why(firing),
        )
    more = [Text(f"More: --cursor {page.next_cursor}", "dim")] if page.next_cursor else []
    return Group(table, *more)


def backfill_page(name: str, filled: Backfilled) -> RenderableType:
    """Return what a backfill did, or would do."""
    verb = "would be queued" if filled.is_dry else "queued"
    head = f"{words.count(len(filled.queued), 'due time')} {verb}, {len(filled.existing)} had a run or wait for one."
    listed = [Text(f"  {words.moment(due)} UTC") for due in filled.queued[:LISTED]]
    more = [Text(f"  and {len(filled.queued) - LISTED} more", "dim")] if len(filled.queued) > LISTED else []
    follow = [] if filled.is_dry or not filled.queued else [Text(f"  follow: agentflow schedule history {name}")]
    return Group(Text(head), *listed, *more, *follow)


def fired_line(firing: FiringView) -> str:
    """Say what a firing by hand came to."""
    if firing.run_id is not None:
        short = words.short_id(firing.run_id)
        return f"Run {firing.run_id} submitted\n  follow: agentflow watch {short}"
    why = _why(firing)
    return f"It is {firing.state}" + (f": {why}." if why else "; it starts once nothing is in its way.")


def when(timing: Timing, time_zone: str) -> str:
    """Say what decides the due times."""
    match timing:
        case IntervalTiming(seconds=seconds, anchor=anchor):
            return f"every {format_duration(seconds)} from {words.moment(anchor)} UTC"
        case OnceTiming(at=at):
            return f"once at {words.moment(at)} UTC"
        case _:
            return f"{timing.as_json()['cron']} ({time_zone})"


def _next_times(report: ScheduleReport) -> RenderableType:
    if not report.schedule.is_enabled:
        return Text("It is stopped: nothing is due until it is resumed.", "yellow")
    dues = report.next()
    if not dues:
        return Text("It is never due again.")
    has_jitter = report.schedule.pace.jitter_seconds > 0
    table = _table(f"next ({report.schedule.time_zone})", "UTC", *(["fires (UTC)"] if has_jitter else []))
    for due in dues:
        fires = [words.moment(due.fires_at)] if has_jitter else []
        table.add_row(due.local.strftime("%a %Y-%m-%d %H:%M:%S %z"), words.moment(due.at), *fires)
    return table


def _warnings(reports: Sequence[ScheduleReport]) -> list[Text]:
    if any(report.keeper is not None for report in reports):
        return []
    return [Text("No beat keeps the schedules now: start `celery -A beat beat`, or `agentflow beat`.", "yellow")]


def _budget(report: ScheduleReport) -> str:
    budget = report.schedule.budget
    caps = {kind: cap_of(budget, kind) for kind in BudgetKind} if budget is not None else {}
    return ", ".join(f"{kind}={written(kind, cap)}" for kind, cap in caps.items() if cap is not None)


def _why(firing: FiringView) -> str:
    until = ((firing.reason or {}).get("detail") or {}).get("until")
    return words.reason(firing.reason) + (f" (and all others until {until})" if until else "")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
