"""The page that shows limits: rates, concurrencies with holders and lines, and circuit breakers.

Owns what stands on it and how much of it; ``--json`` has all. The figures are the client's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentflow.broker.breakers import BreakerState, BreakerView
from agentflow.cli import words
from agentflow.client.limit_report import LimitsReport
from agentflow.storage.limits import ConcurrencyView, RateView, WaitingStep

ROOM = 100
"""How many keys of a kind the page lists, and how many holders of a key."""
_STYLES = {BreakerState.CLOSED: "green", BreakerState.OPEN: "bold red", BreakerState.HALF_OPEN: "yellow"}


def limits_page(report: LimitsReport) -> RenderableType:
    """Return the page; a kind of which there is nothing is left out."""
    limits, now = report.limits, report.read_at
    parts = [
        *_section("rates", [_rates(limits.rates[:ROOM], now)], len(limits.rates)),
        *_section("concurrency", [_places(limits.concurrencies[:ROOM], now)], len(limits.concurrencies)),
        *_section("breakers", [_breakers((report.breakers or ())[:ROOM])], len(report.breakers or ())),
    ]
    if report.breakers is None:
        parts.append(Text("Redis does not answer: the breakers are unknown, and every call is let through.", "yellow"))
    return Group(*parts) if parts else Text("No limits are in use.")


def _section(title: str, tables: Sequence[RenderableType], count: int) -> Iterator[RenderableType]:
    if not count:
        return
    yield Text(title, "bold")
    yield from tables
    if count > ROOM:
        yield Text(f"and {count - ROOM} more", "dim")
    yield Text()


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _rates(rates: Sequence[RateView], now: datetime) -> Table:
    table = _table("key", "limit", "burst", "next free", "waiting")
    for rate in rates:
        limit = "" if rate.per_minute is None else frequency(rate.per_minute)
        burst = "" if rate.burst is None else str(rate.burst)
        cells = (rate.key, limit, burst, ahead(rate.next_free_at, now), str(rate.waiting))
        table.add_row(*(Text(words.printable(cell)) for cell in cells))
        for each in rate.first_waiting:
            table.add_row(_named(each), Text(), Text(), Text(f"ticket {ahead(each.at, now)}", "dim"), Text())
        _add_rest(table, rate.waiting - len(rate.first_waiting))
    return table


def _places(concurrencies: Sequence[ConcurrencyView], now: datetime) -> Table:
    table = _table("key", "held", "since", "worker", "waiting")
    for each in concurrencies:
        held = f"{len(each.holders)} of {each.places}"
        table.add_row(Text(words.printable(each.key)), Text(held), Text(), Text(), Text(str(each.waiting)))
        for holder in each.holders[:ROOM]:
            step = WaitingStep(holder.run_id, holder.step, holder.since)
            until = f"{words.printable(holder.worker)}, lease ends {ahead(holder.expires, now)}"
            since = Text(words.ago(holder.since, now), "dim")
            table.add_row(_named(step), Text(f"place {holder.number}", "dim"), since, Text(until, "dim"), Text())
        _add_rest(table, len(each.holders) - ROOM)
        for waiting in each.first_waiting:
            since = Text(words.ago(waiting.at, now), "dim")
            table.add_row(_named(waiting), Text("waits", "dim"), since, Text(), Text())
        _add_rest(table, each.waiting - len(each.first_waiting))
    return table


def _breakers(breakers: Sequence[BreakerView]) -> Table:
    table = _table("endpoint", "state", "calls", "failed", "refused", "")
    for each in breakers:
        again = f"next call in {words.duration(each.retry_after_seconds)}" if each.retry_after_seconds else ""
        trials = f"{words.count(each.successes, 'trial')} went well" if each.state is BreakerState.HALF_OPEN else ""
        table.add_row(
            Text(words.printable(each.endpoint)),
            Text(each.state.value.replace("_", " "), _STYLES[each.state]),
            Text(str(each.total)),
            Text(str(each.failed)),
            Text(str(each.rejected)),
            Text(again or trials, "dim"),
        )
    return table


def _named(step: WaitingStep) -> Text:
    return Text(f"  {words.short_id(step.run_id)} {words.printable(step.step)}", "dim")


def _add_rest(table: Table, count: int) -> None:
    if count > 0:
        table.add_row(Text(f"  and {count} more", "dim"))


def frequency(per_minute: float) -> str:
    """Return a rate in the largest unit of plans in which it is once or more: ``60/m``, ``2/h``."""
    per_day = per_minute * 24 * 60
    amount, unit = next(
        ((amount, unit) for amount, unit in ((per_minute, "m"), (per_minute * 60, "h")) if amount >= 1), (per_day, "d")
    )
    return f"{round(amount, 3):,g}/{unit}"


def ahead(at: datetime, now: datetime) -> str:
    """Return how far ahead a moment is: ``now``, ``in 3.2 s``."""
    seconds = (at - now).total_seconds()
    return f"in {words.duration(seconds)}" if seconds > 0 else "now"
