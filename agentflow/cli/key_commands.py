"""The verbs about the keys of the API: ``key create``, ``key list`` and ``key revoke``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from agentflow.domain.api_key import ApiKey

Name = Annotated[str, typer.Argument(metavar="NAME", help="Who calls with it: the audit names it as the actor.")]
RoleName = Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, operator or admin.")]
Project = Annotated[str | None, typer.Option("--project", metavar="P", help="It sees and does only what is of P.")]
Expires = Annotated[str | None, typer.Option("--expires", metavar="D", help="It opens nothing after D, such as 90d.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    key = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys of the HTTP API.")
    key.command()(create)
    key.command("list")(list_)
    key.command()(revoke)
    app.add_typer(key, name="key", rich_help_panel=options.STACK)


def create(
    name: Name, role: RoleName, project: Project = None, expires: Expires = None, as_json: options.AsJson = False
) -> None:
    """Make a key. It is shown now and never again: only a hash of it is kept."""
    with opened() as flow:
        made = flow.create_key(name, role, project=project, expires=expires)
    if as_json:
        printing.print_json({"schema": "agentflow.key/1", **made.key.as_json(), "key": made.text})
        return
    printing.note(f"{_told(made.key)} It is shown only now:")
    print(made.text)


def list_(as_json: options.AsJson = False) -> None:
    """List the keys: their roles, since when, until when, and when they were last used, to a minute."""
    with opened() as flow:
        found = flow.keys()
    if as_json:
        printing.print_json({"schema": "agentflow.keys/1", "keys": [key.as_json() for key in found]})
    elif found:
        printing.page(keys_table(found))
    else:
        print("There are no keys yet: agentflow key create NAME --role viewer")


def revoke(name: Name, as_json: options.AsJson = False) -> None:
    """Let a key open nothing any more, from now on."""
    with opened() as flow:
        revoked = flow.revoke_key(name)
    if as_json:
        printing.print_json({"schema": "agentflow.key/1", **revoked.as_json()})
    else:
        print(f"The key {revoked.name} opens nothing any more.")


def _told(key: ApiKey) -> str:
    from agentflow.cli.words import moment

    where = "every project" if key.project is None else f"project {key.project}"
    until = "" if key.expires_at is None else f", until {moment(key.expires_at)} UTC"
    return f"Key {key.name}: {key.role.value} of {where}{until}."


def keys_table(found: Sequence[ApiKey]) -> Table:
    """Return the list of keys."""
    from rich.table import Table

    from agentflow.cli.words import moment, printable

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("name", "role", "project", "state", "created (UTC)", "expires (UTC)", "last used (UTC)"):
        table.add_column(heading)
    for key in found:
        times = [moment(at) if at else "" for at in (key.created_at, key.expires_at, key.last_used_at)]
        table.add_row(printable(key.name), key.role.value, key.project or "*", key.state.value, *times)
    return table
