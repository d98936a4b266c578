"""The page that shows how budgets stand.

Owns what stands on it. The figures, and which scopes there are, are the client's.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.client.budget_report import BudgetReport, LedgerBalance
from agentflow.domain.budget import run_of
from agentflow.storage.balances import Balance
from agentflow.storage.view_shapes import BudgetLine


def budget_page(report: BudgetReport) -> RenderableType:
    """Return the page: a line for each kind of each scope, the narrow scopes first."""
    if not report.balances:
        return Text("No budgets.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("budget of", no_wrap=True)
    table.add_column("", no_wrap=True)
    for column in ("limit", "used", "reserved", "left"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("", no_wrap=True, style="dim")
    for place, balance in enumerate(report.balances):
        for number, line in enumerate(balance.lines):
            table.add_row(*_row(balance, line, is_first=number == 0, is_above=place > 0))
    if report.ledger is None:
        return table
    return Group(table, Text(), *(_ledger_line(report.ledger.get(each.scope), each) for each in report.balances))


def capped(line: BudgetLine) -> str:
    """Return how one capped kind stands, in a phrase: ``900 of 1,100 tokens used, 150 reserved``."""
    used = f"{words.bare_amount(line.budget, line.used)} of {words.amount(line.budget, line.limit or 0)} used"
    return f"{used}, {words.bare_amount(line.budget, line.reserved)} reserved" if line.reserved else used


def _row(balance: Balance, line: BudgetLine, *, is_first: bool, is_above: bool) -> list[Text]:
    """``is_above``: a run's scope is that of a run above the one that was asked for."""

    def amount(value: float | None) -> Text:
        return Text("" if value is None else words.bare_amount(line.budget, value))

    until = f"until {words.moment(balance.resets_at)} UTC" if balance.resets_at and is_first else ""
    limit = Text("no cap", "dim") if line.limit is None else amount(line.limit)
    left = amount(line.left)
    if line.left == 0:
        left.stylize("bold red")
    above = run_of(balance.scope) if is_above else None
    named = words.scope(balance.scope) if above is None else f"run {words.short_id(above)} above it"
    whose = Text(words.printable(named)) if is_first else Text()
    kind = Text(line.budget.value.replace("_", " "), "dim")
    return [whose, kind, limit, amount(line.used), amount(line.reserved), left, Text(until)]


def _ledger_line(ledger: LedgerBalance | None, balance: Balance) -> Text:
    whose = words.printable(words.scope(balance.scope))
    if ledger is None:
        return Text(f"ledger of {whose}: not loaded, it is read from Postgres at its next use", "dim")
    if not ledger.differs:
        return Text(f"ledger of {whose}: as Postgres says", "dim")
    parts = [
        f"{words.bare_amount(each['budget'], each['used'])} used and "
        f"{words.bare_amount(each['budget'], each['reserved'])} reserved of {each['budget']}"
        for each in ledger.as_json()["budgets"]
    ]
    return Text(f"ledger of {whose}: {'; '.join(parts)}. Postgres counts; attempts under way explain it.", "yellow")
