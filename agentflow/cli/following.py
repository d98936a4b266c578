"""Following a run: a live table in a terminal, one line for each change elsewhere, events as JSON lines.

Owns what is printed while a run goes, and the word that no worker seems to be there. How often to look is the pace's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from agentflow.cli import printing, words
from agentflow.cli.run_page import closing_line, commands_table, headline, next_things
from agentflow.cli.steps_table import steps_table
from agentflow.client import AttemptView, Run, RunView, StepView
from agentflow.client.pace import Pace
from agentflow.domain.state import ShownRunState

LOOK_SECONDS = 0.25
UNTAKEN_SECONDS = 5.0
"""How long a run may go without a first attempt before a missing worker is the likely reason."""
NO_WORKER = "No worker has taken a step yet. Is one running? `agentflow up` or `agentflow worker` starts one."
_LINES_AROUND = 9


def follow(run: Run, *, is_quiet: bool = False, as_events: bool = False, has_advice: bool = True) -> None:
    """Follow ``run`` until it has ended or rests; quietly, or telling what happens and, at the end, what to do next."""
    console = printing.console()
    if as_events:
        for event in run.events(follow=True):
            printing.print_json(event.as_json(), is_line=True)
        run.refresh()
    elif is_quiet:
        run.wait()
    elif console.is_terminal:
        _follow_live(run, console)
        console.print(ending(run, is_named=False, has_advice=has_advice))
    else:
        _follow_in_lines(run)
        printing.page(ending(run, has_advice=has_advice))


def _looks(run: Run) -> Iterator[RunView]:
    """Yield the run as it stands, whenever something happened, until it has ended or rests."""
    stir = run.stir()
    for seen in run.looks(Pace(longest_seconds=LOOK_SECONDS)):
        if stir.is_felt(is_last=seen.is_at_rest):
            yield seen.view


def _follow_live(run: Run, console: Console) -> None:
    table = LiveTable()
    with Live(table, console=console, refresh_per_second=8, vertical_overflow="crop") as live:
        for view in _looks(run):
            table.show(view)
        live.refresh()


class LiveTable:
    """The run as it was last seen, with its clocks running on; ``hint`` and what was ``said`` stand below it."""

    def __init__(self, hint: str = "") -> None:
        self.said = ""
        self._hint = hint
        self._view: RunView | None = None
        self._percent = 0
        self._seen_at = 0.0

    def show(self, view: RunView) -> None:
        """Take over a new look at the run."""
        self._view, self._percent, self._seen_at = view, view.progress.percent, time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if self._view is None:
            return
        now = self._view.summary.read_at + timedelta(seconds=time.monotonic() - self._seen_at)
        room = max(3, (options.max_height or console.height) - _LINES_AROUND)
        parts: list[RenderableType] = [
            _clocked(self._view, self._percent, now),
            steps_table(self._view, now, room, is_wrapping=False),
        ]
        if is_untaken(self._view, now):
            parts.append(Text(NO_WORKER, "yellow"))
        if self._hint:
            parts += [Text(), Text(self._hint, "dim"), Text(self.said, overflow="ellipsis", no_wrap=True)]
        yield Group(*parts)

    def without_keys(self) -> LiveTable:
        """The same as it stands at the end, when no key means anything any more."""
        last = LiveTable()
        if self._view is not None:
            last.show(self._view)
        return last


def _clocked(view: RunView, percent: int, now: datetime) -> Text:
    line = headline(view)
    if view.summary.ended_at is None:
        line.append(f"  {percent} %", "dim")
    if view.summary.ended_at is None and view.summary.started_at:
        line.append(f"  {words.duration(words.run_seconds(view.summary, now))}", "dim")
    return line


def is_untaken(view: RunView, now: datetime) -> bool:
    """Whether nothing of a running run was taken although there was time for it."""
    summary = view.summary
    is_old = (now - (summary.started_at or now)).total_seconds() > UNTAKEN_SECONDS
    return is_old and summary.state is ShownRunState.RUNNING and not view.usage.attempts


def ending(run: Run, *, is_named: bool = True, has_advice: bool = True) -> RenderableType:
    """Return how a run ended and, with advice, what to do next."""
    view = run.view
    if not has_advice:
        return closing_line(view, is_named=is_named)
    show = (f"agentflow show {words.short_id(view.summary.id)}", "everything about it")
    suggestions = commands_table([*next_things(view, run.verdicts), show])
    return Group(closing_line(view, is_named=is_named), Padding(suggestions, (0, 0, 0, 2), expand=False))


def _follow_in_lines(run: Run) -> None:
    teller = ChangeTeller()
    was_told = False
    for view in _looks(run):
        for line in teller.changes(view):
            print(line, flush=True)
        if not was_told and is_untaken(view, view.summary.read_at):
            printing.note(NO_WORKER)
            was_told = True


class ChangeTeller:
    """Turns looks at a run into one line for each change since the look before; no attempt is passed over."""

    def __init__(self) -> None:
        self._begun: set[tuple[str, int]] = set()
        self._ended: set[tuple[str, int]] = set()
        self._told: dict[str, str] = {}

    def changes(self, view: RunView) -> Iterator[str]:
        """Yield the lines for what is new in ``view``."""
        for step in view.steps.values():
            for attempt in step.attempts:
                yield from self._of_attempt(view, step, attempt)
            if _is_told_by_itself(step) and self._told.get(step.id) != step.state:
                yield _line(view, view.summary.read_at, step, f"{step.state}  {words.reason(step.reason)}")
            self._told[step.id] = step.state

    def _of_attempt(self, view: RunView, step: StepView, attempt: AttemptView) -> Iterator[str]:
        key = (step.id, attempt.number)
        if attempt.is_reused:
            if key not in self._begun:
                self._begun.add(key)
                yield _line(view, view.summary.created_at, step, words.reason(attempt.reason))
            return
        which = f" (attempt {attempt.number})" if attempt.number > 1 else ""
        if key not in self._begun:
            self._begun.add(key)
            yield _line(view, attempt.started_at, step, f"started{which}")
        if attempt.ended_at is not None and key not in self._ended:
            self._ended.add(key)
            tail = f"  {words.reason(attempt.reason)}" if attempt.reason else ""
            if attempt.retry_at is not None:
                tail += f"; next try in {words.duration((attempt.retry_at - attempt.ended_at).total_seconds())}"
            took = words.duration(attempt.duration_seconds)
            yield _line(view, attempt.ended_at, step, f"{attempt.state}{which} in {took}{tail}")


def _is_told_by_itself(step: StepView) -> bool:
    """Whether no attempt tells the state that a step came to."""
    return step.state in ("skipped", "cancelled", "held") or (step.state == "failed" and not step.attempts)


def _line(view: RunView, at: datetime, step: StepView, what: str) -> str:
    since = (at - view.summary.created_at).total_seconds()
    return f"{words.duration(max(0.0, since)):>9}  {step.id:<20}  {what}".rstrip()
