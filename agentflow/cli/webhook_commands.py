"""The verbs about webhooks: ``webhook create``, ``list``, ``show``, ``deliveries``, ``test``, ``replay`` and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli import exit_codes, options, printing
from agentflow.cli.opening import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from agentflow.domain.webhook import Delivery, Webhook

Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called in its project.")]
Reference = Annotated[str, typer.Argument(metavar="NAME", help="A webhook: its name or its id.")]
Url = Annotated[str, typer.Option("--url", metavar="URL", help="Where messages are sent.")]
On = Annotated[
    list[str] | None,
    typer.Option(
        "--on", metavar="TYPES", help="What is told, with commas between: run.completed,run.failed,...; repeatable."
    ),
]
OfProject = Annotated[str | None, typer.Option("--project", metavar="P", help="Only what happens in P.")]
OfPlan = Annotated[str | None, typer.Option("--plan", metavar="NAME", help="Only runs of plans of this name.")]
State = Annotated[str | None, typer.Option("--state", help="pending, delivered or failed.")]
Limit = Annotated[int, typer.Option("--limit", help="How many at most.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="next_cursor of the page before.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[DELIVERY]...", help="Deliveries, by their ids.")]
Since = Annotated[
    str | None, typer.Option("--failed-since", metavar="T", help="All that failed since T: a time, or 2h for 2h ago.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    webhook = typer.Typer(no_args_is_help=True, help="Have other programs told what happens, by signed messages.")
    webhook.command()(create)
    webhook.command("list")(list_)
    webhook.command()(show)
    webhook.command()(deliveries)
    webhook.command("test")(ping)
    webhook.command()(replay)
    webhook.command()(enable)
    webhook.command()(disable)
    webhook.command()(rotate)
    webhook.command()(remove)
    app.add_typer(webhook, name="webhook", rich_help_panel=options.STACK)


def create(
    name: Name,
    url: Url,
    on: On = None,
    project: OfProject = None,
    plan: OfPlan = None,
    as_json: options.AsJson = False,
) -> None:
    """Have a URL told what happens. The secret that signs is shown now and never again."""
    types = None if on is None else [name.strip() for each in on for name in each.split(",") if name.strip()]
    with opened() as flow:
        made = flow.create_webhook(name, url, on=types, project=project, plan=plan)
    _print_secret(
        made.webhook, made.secret, f"Webhook {name} is told {', '.join(made.webhook.types)}.", as_json=as_json
    )


def list_(project: options.Project = None, as_json: options.AsJson = False) -> None:
    """List the webhooks by name."""
    with opened() as flow:
        found = flow.webhooks(project=project)
    if as_json:
        told = [each.as_json() for each in found]
        printing.print_json({"schema": "agentflow.webhooks/1", "webhooks": told, "next_cursor": None})
    elif found:
        printing.page(webhooks_table(found))
    else:
        print("There are no webhooks yet: agentflow webhook create NAME --url https://...")


def show(name: Reference, project: options.Project = None, as_json: options.AsJson = False) -> None:
    """Show a webhook: where it leads, what it is told, and whether that goes well."""
    with opened() as flow:
        _print(flow.webhook(name, project=project), as_json=as_json)


def deliveries(
    name: Reference,
    state: State = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    project: options.Project = None,
    as_json: options.AsJson = False,
) -> None:
    """List what a webhook was told, the newest first, and what came of it."""
    with opened() as flow:
        page = flow.webhook_deliveries(name, project=project, state=state, limit=limit, cursor=cursor)
    if as_json:
        told = [each.as_json() for each in page.deliveries]
        answer = {"schema": "agentflow.webhook-deliveries/1", "deliveries": told, "next_cursor": page.next_cursor}
        printing.print_json(answer)
        return
    if not page.deliveries:
        print("There are no such deliveries.")
        return
    printing.page(deliveries_table(page.deliveries))
    if page.next_cursor is not None:
        printing.note(f"More: --cursor {page.next_cursor}")


def ping(name: Reference, project: options.Project = None, as_json: options.AsJson = False) -> None:
    """Send a ping now, from here, and tell the answer. Exit code 1 if it did not arrive."""
    with opened() as flow:
        told = flow.test_webhook(name, project=project)
    if as_json:
        printing.print_json({"schema": "agentflow.webhook-delivery/1", **told.as_json()})
    else:
        print(_answer(told))
    if told.state != "delivered":
        raise typer.Exit(exit_codes.FAILED)


def replay(
    name: Reference,
    ids: Ids = None,
    failed_since: Since = None,
    project: options.Project = None,
    as_json: options.AsJson = False,
) -> None:
    """Send past deliveries again, under the ids that they had: those named, or all that failed since a time."""
    with opened() as flow:
        sent = flow.replay_webhook(name, ids or (), project=project, failed_since=failed_since)
    if as_json:
        printing.print_json({"schema": "agentflow.webhook-replay/1", "deliveries": [str(each) for each in sent]})
    else:
        print(f"{len(sent)} {'delivery is' if len(sent) == 1 else 'deliveries are'} sent again.")


def enable(name: Reference, project: options.Project = None, as_json: options.AsJson = False) -> None:
    """Tell a webhook again: of what happens from now on, and of what waited."""
    with opened() as flow:
        _print(flow.enable_webhook(name, project=project), as_json=as_json)


def disable(name: Reference, project: options.Project = None, as_json: options.AsJson = False) -> None:
    """Tell a webhook nothing more; what waits, waits until it is enabled."""
    with opened() as flow:
        _print(flow.disable_webhook(name, project=project), as_json=as_json)


def rotate(name: Reference, project: options.Project = None, as_json: options.AsJson = False) -> None:
    """Give a webhook another secret; for a day messages are signed with the one before too."""
    with opened() as flow:
        made = flow.rotate_webhook(name, project=project)
    _print_secret(made.webhook, made.secret, f"Webhook {made.webhook.name} has another secret.", as_json=as_json)


def remove(name: Reference, project: options.Project = None, as_json: options.AsJson = False) -> None:
    """Remove a webhook with the history of its deliveries."""
    with opened() as flow:
        removed = flow.remove_webhook(name, project=project)
    if as_json:
        printing.print_json({"schema": "agentflow.webhook/1", **removed.as_json()})
    else:
        print(f"Webhook {removed.name} is removed.")


def _print_secret(webhook: Webhook, secret: str, told: str, *, as_json: bool) -> None:
    if as_json:
        printing.print_json({"schema": "agentflow.webhook/1", **webhook.as_json(), "secret": secret})
        return
    printing.note(f"{told} Its secret is shown only now:")
    print(secret)


def _print(webhook: Webhook, *, as_json: bool) -> None:
    if as_json:
        printing.print_json({"schema": "agentflow.webhook/1", **webhook.as_json()})
        return
    from agentflow.cli.words import moment, printable

    lines = {
        "webhook": f"{printable(webhook.name)} ({webhook.id}), {_state(webhook)}",
        "url": printable(webhook.url),
        "told of": ", ".join(webhook.types),
        "only of": f"project {webhook.project or '*'}, plan {webhook.plan or '*'}",
        "created": f"{moment(webhook.created_at)} UTC by {printable(webhook.created_by)}",
        "delivered": f"{moment(webhook.delivered_at)} UTC" if webhook.delivered_at else "never yet",
    }
    if webhook.failing_since is not None:
        lines["failing"] = f"since {moment(webhook.failing_since)} UTC"
    if webhook.previous_secret_until is not None:
        lines["secrets"] = f"two until {moment(webhook.previous_secret_until)} UTC"
    for heading, text in lines.items():
        print(f"{heading:<10} {text}")


def _state(webhook: Webhook) -> str:
    if webhook.is_enabled:
        return "enabled"
    return f"disabled by {webhook.disabled_by} ({webhook.disabled_code})"


def _answer(told: Delivery) -> str:
    status = "no answer" if told.last_status is None else f"status {told.last_status}"
    took = f"{told.duration_seconds or 0:.3f} s"
    return f"{told.state}: {status} after {took}" + ("" if told.problem is None else f" ({told.problem})")


def webhooks_table(found: Sequence[Webhook]) -> Table:
    """Return the list of webhooks."""
    from agentflow.cli.words import moment, printable

    table = _columns("name", "id", "project", "plan", "state", "delivered (UTC)", "failing since (UTC)", "url")
    for each in found:
        times = [moment(at) if at else "" for at in (each.delivered_at, each.failing_since)]
        state = "enabled" if each.is_enabled else f"disabled ({each.disabled_code})"
        where = (each.project or "*", each.plan or "*")
        table.add_row(printable(each.name), each.id, *where, state, *times, printable(each.url))
    return table


def deliveries_table(found: Sequence[Delivery]) -> Table:
    """Return the list of deliveries."""
    from agentflow.cli.words import moment

    table = _columns("delivery", "type", "state", "created (UTC)", "tries", "status", "problem", "next (UTC)", "run")
    for each in found:
        table.add_row(
            str(each.id),
            each.type.value,
            each.state.value,
            moment(each.created_at),
            str(each.attempts),
            str(each.last_status or ""),
            each.problem or "",
            moment(each.next_at) if each.next_at else "",
            str(each.run_id or ""),
        )
    return table


def _columns(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading)
    return table
