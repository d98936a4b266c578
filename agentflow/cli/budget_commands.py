"""The verbs about budgets: ``budget show`` and ``budget raise``. How budgets look is budget_page's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened, opened_run

if TYPE_CHECKING:
    from decimal import Decimal

    from agentflow.client import Run
    from agentflow.client.budgets import BudgetRaised

_MOST_DIGITS = 18
OptionalRun = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run: its id, a unique prefix, or @last.")]
ShownProject = Annotated[
    str | None, typer.Option("--project", help="The budgets of this project; with a RUN, only a run of it.")
]
Directive = Annotated[
    str | None, typer.Option("--directive", metavar="P/D", help="The budgets of directive D of project P.")
]
Day = Annotated[bool, typer.Option("--day", help="Only the budgets of today.")]
WithLedger = Annotated[bool, typer.Option("--ledger", help="Compare the ledger in Redis with Postgres.")]
Steps = Annotated[str | None, typer.Option("--steps", metavar="+N", help="So many attempts more, retries counted.")]
Tokens = Annotated[str | None, typer.Option("--tokens", metavar="+N", help="So many tokens more.")]
Usd = Annotated[str | None, typer.Option("--usd", metavar="+AMOUNT", help="So many US dollars more, such as +0.50.")]
ActiveTime = Annotated[
    str | None, typer.Option("--active-time", metavar="+DURATION", help="So much time more, such as +10m.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    budget = typer.Typer(no_args_is_help=True, help="Show and raise what runs may use.")
    budget.command()(show)
    budget.command("raise")(raise_)
    app.add_typer(budget, name="budget", rich_help_panel=options.RUNS)


def show(
    run_reference: OptionalRun = None,
    project: ShownProject = None,
    directive: Directive = None,
    day: Day = False,
    ledger: WithLedger = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what budgets have left: those that a run stands in, a project's, a directive's, else all that are capped."""
    with opened() as flow:
        if run_reference is None:
            report = flow.budget(project=project, directive=directive, is_today=day, has_ledger=ledger)
        else:
            found = flow.get(run_reference, project=project)
            report = flow.budget(found, directive=directive, is_today=day, has_ledger=ledger)
        if as_json:
            printing.print_json(report.as_json())
            return
        from agentflow.cli.budget_page import budget_page

        printing.page(budget_page(report))


def raise_(
    run_reference: options.RunReference,
    steps: Steps = None,
    tokens: Tokens = None,
    usd: Usd = None,
    active_time: ActiveTime = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Give a run more than it was submitted with. What is said is added; the + may be left out.

    A run that rests stays at rest until `agentflow resume`.
    """
    more_steps, more_tokens = _whole("--steps", steps), _whole("--tokens", tokens)
    more_usd = _amount("--usd", usd)
    more_time = None if active_time is None else _unsigned("--active-time", active_time)
    with opened_run(run_reference, project) as found:
        raised = found.raise_budget(steps=more_steps, tokens=more_tokens, usd=more_usd, active_time=more_time)
        if as_json:
            head = {"schema": "agentflow.budget-raise/1", "run": found.id, "state": found.state.value}
            printing.print_json(head | {"raised": raised.as_json()})
        else:
            _tell(found, raised)


def read_more(written: Sequence[str] | None) -> dict[str, Any]:
    """Read ``KIND=+N`` options into what is added to a budget. UsageError for anything else."""
    from agentflow.domain.error import UsageError

    more: dict[str, Any] = {}
    wanted = "--budget takes KIND=+N, such as tokens=+5000 or usd=+0.50, of steps, tokens, usd and active_time"
    for each in written or ():
        kind, equals, amount = each.partition("=")
        option = f"--budget {kind}"
        if amount and amount[0] not in "+-":
            raise UsageError(f"{wanted}; {each!r} has no +: what is written is added, a cap is never set or lowered.")
        match kind if equals else "":
            case "steps" | "tokens":
                more[kind] = _whole(option, amount)
            case "usd":
                more[kind] = _amount(option, amount)
            case "active_time":
                more[kind] = _unsigned(option, amount)
            case _:
                raise UsageError(f"{wanted}; not {each!r}.")
    return more


def _tell(found: Run, raised: BudgetRaised) -> None:
    from agentflow.cli.words import amount, short_id
    from agentflow.domain.state import ShownRunState

    short = short_id(found.id)
    for kind, before, after in raised.changes():
        print(f"Run {short} may use {amount(kind, after)} now, {amount(kind, before)} before.")
    if found.state is ShownRunState.EXHAUSTED:
        print(f"It rests until it is resumed: agentflow resume {short}")


def _unsigned(option: str, written: str) -> str:
    """Return what is to be added without its sign. UsageError for a minus: a cap is never lowered."""
    from agentflow.domain.error import UsageError

    if written.startswith("-"):
        raise UsageError(f"{option} {written}: a budget can only be raised, write what is to be added, such as +5000.")
    return written.removeprefix("+")


def _whole(option: str, written: str | None) -> int | None:
    from agentflow.domain.error import UsageError

    if written is None:
        return None
    digits = _unsigned(option, written)
    if not (digits.isascii() and digits.isdigit() and digits.strip("0")):
        raise UsageError(f"{option} takes a whole number above 0 to add, such as +5000, not {written!r}.")
    return int(digits.lstrip("0")[:_MOST_DIGITS])  # one of more digits is still too large then, and told to be


def _amount(option: str, written: str | None) -> Decimal | None:
    from decimal import Decimal, InvalidOperation

    from agentflow.domain.error import UsageError

    if written is None:
        return None
    try:
        found = Decimal(_unsigned(option, written))
    except InvalidOperation:
        found = Decimal(0)
    if not found.is_finite() or found <= 0:
        raise UsageError(f"{option} takes an amount above 0 to add, such as +0.50, not {written!r}.")
    return found
