"""The verb ``signal``: hand a run what a step of it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened_run

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the signal, as the step waits for it.")]
Data = Annotated[
    str | None, typer.Option("--data", metavar="JSON|@FILE", help="What becomes the result of the step that waits.")
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel=options.RUNS)(signal)


def signal(
    run_reference: options.RunReference,
    name: Name,
    data: Data = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Send a signal to a run: it ends the wait of one step, or is kept for the first step that comes to wait for it."""
    given = None if data is None else read_data(data)
    with opened_run(run_reference, project) as found:
        signalled = found.signal(name, given)
        if as_json:
            printing.print_json(found.summary.as_json() | {"signal": name, "step": signalled.step})
            return
        from agentflow.cli.words import short_id

        short = short_id(found.id)
        if signalled.step is None:
            print(f"No step of run {short} waits for {name} now: it is kept for the first that will.")
        else:
            print(f"Run {short} goes on: {signalled.step} has the signal {name}.")
        print(f"  follow: agentflow watch {short}")


def read_data(written: str) -> Any:
    """Read JSON, or the file behind ``@`` that holds it. UsageError, which quotes nothing of it, for anything else."""
    import json

    from agentflow.domain.error import UsageError
    from agentflow.domain.signal import MAX_DATA_BYTES

    text, source = written, "--data"
    if written.startswith("@"):
        source = f"The file {written[1:]!r} of --data"
        try:
            with Path(written[1:]).open("rb") as file:
                text = file.read(MAX_DATA_BYTES + 1).decode()
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise UsageError(f"{source} is no UTF-8 text.") from None
        if len(text.encode()) > MAX_DATA_BYTES:
            raise UsageError(f"{source} has more than {MAX_DATA_BYTES:,} bytes.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{source} is no JSON{where}: a text is written in quotes, '\"like this\"'.") from None
