"""Write docs/reference from the code: the Python client, the settings, the CLI, problems of calls, the HTTP API.

python docs/generate_reference.py          writes the pages
python docs/generate_reference.py --check  fails when a page is not what the code says
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

import agentflow
from agentflow.client.schedules import Schedules
from agentflow.settings import Settings

FOLDER = Path(__file__).parent / "reference"
MADE_BY = "<!-- Written by docs/generate_reference.py; change the code instead. -->\n"


def python_page() -> str:
    """The public Python names with their docstrings."""
    parts = [MADE_BY, "# Python\n"]
    for name in agentflow.__all__:
        value = getattr(agentflow, name)
        if inspect.isclass(value):
            parts += [f"## {name}\n", f"```python\n{name}{_signature(value)}\n```\n", f"{inspect.getdoc(value)}\n"]
            parts += [part for member in _members(value) for part in member]
    parts += [f"## Schedules\n\n{inspect.getdoc(Schedules)}\n"]
    parts += [part for member in _members(Schedules) for part in member]
    errors = agentflow.errors
    parts += ["## errors\n", "```text", (inspect.getdoc(errors) or "").strip(), "```\n"]
    return "\n".join(parts)


def _members(owner: type) -> list[list[str]]:
    found = []
    bases = [base for base in owner.__mro__ if base.__module__.startswith("agentflow.")]
    for name, member in ((name, member) for base in bases for name, member in vars(base).items()):
        if name.startswith("_"):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not inspect.isfunction(function):
            continue
        title = name if isinstance(member, property) else f"{name}{_signature(function)}"
        found.append([f"### {owner.__name__}.{name}\n", f"```python\n{title}\n```\n", f"{inspect.getdoc(function)}\n"])
    return found


def _signature(function: Callable[..., object]) -> str:
    signature = inspect.signature(function)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    return str(signature.replace(parameters=kept)).replace("'", "")  # annotations are kept as text


def settings_page() -> str:
    """Every setting: its variable, default and purpose."""
    rows = []
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"AGENTFLOW_{name.upper()}")
        is_shown = isinstance(field.default, str | int | float) and not field.default_factory
        default = f"`{field.default}`" if is_shown else ""
        rows.append(f"| `{variable}` | {default} | {field.description} |")
    return "\n".join(
        [
            MADE_BY,
            "# Settings\n",
            "Read from the environment, else from the configuration file: agentflow.toml in AGENTFLOW_HOME, or what",
            "`AGENTFLOW_CONFIG` names ([an example](../../config/agentflow.toml)). There a setting stands under its",
            "name in small letters, without AGENTFLOW_; a key that is not known is an error, and of a variable that",
            "nothing reads `agentflow doctor` warns. Durations are seconds, sizes bytes. `AGENTFLOW_DATABASE_URL`,",
            "`AGENTFLOW_REDIS_URL`, `AGENTFLOW_AUDIT_KEY` and `AGENTFLOW_CHECKPOINT_KEY` may also be given as",
            "`..._FILE`, a path to a file.\n",
            "A plan's secret `X` is read by the worker from `AGENTFLOW_SECRET_X`, `X`, or their `_FILE` forms.",
            "Its value is masked in stdout, stderr and the declared result; files left as artifacts are kept as",
            "they are, and a command that encodes a secret before it prints it is not seen through.\n",
            "| variable | default | purpose |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def cli_page() -> str:
    """Every command with its help."""
    from agentflow.cli.main import build

    command = typer.main.get_command(build())
    parts = [MADE_BY, "# Commands\n", f"{command.help or ''}\n", *_exit_codes()]
    return "\n".join([*parts, *_commands(command, command.make_context("agentflow", [], resilient_parsing=True))])


def _exit_codes() -> list[str]:
    """What the shell sees: every code with the states and errors that lead to it."""
    from agentflow.cli import exit_codes

    told = {
        exit_codes.COMPLETED: ["the command did what it was asked to"],
        exit_codes.FAILED: ["any other error, or a check that found a problem"],
        exit_codes.INTERRUPTED: ["Ctrl-C; a run that was followed goes on without a follower"],
    }
    meanings: dict[int, list[str]] = {}
    for state, code in exit_codes.BY_STATE.items():
        meanings.setdefault(code, []).append(f"run `{state}`")
    for error, code in exit_codes.BY_ERROR.items():
        meanings.setdefault(code, []).append(f"error `{error}`")
    for code, words in told.items():
        meanings.setdefault(code, []).extend(words)
    rows = [f"| {code} | {', '.join(meanings[code])} |" for code in sorted(meanings)]
    return [
        "## Exit codes\n",
        "A run's state counts for verbs that wait for it: `run`, `watch`, `wait`, `demo`. With `--json` an error is",
        "printed as `{error: {code, message, details}}`, by the names below.\n",
        "| code | meaning |",
        "|---|---|",
        *rows,
        "",
    ]


def _commands(command: Any, context: Any) -> list[str]:
    if hasattr(command, "list_commands"):
        children = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        return [
            line
            for name, child in children
            if not child.hidden
            for line in _commands(child, child.make_context(name, [], parent=context, resilient_parsing=True))
        ]
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [f"| `{_cell(names)}` | {' '.join((text or '').split())} |" for names, text in filter(None, records)]
    table = ["| option | |", "|---|---|", *rows, ""] if rows else []
    return [
        f"## {context.command_path}\n",
        f"```text\n{usage}\n```\n",
        f"{inspect.cleandoc(command.help or '')}\n",
        *table,
    ]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")  # else it ends the cell, also within code


def problems_page() -> str:
    """Every problem of a call: what it means, and what becomes of the step."""
    from agentflow.domain.call import MEANINGS

    rows = [
        f"| `{problem}` | {meaning.sentence} | {_REMEDIES[meaning.remedy]} | {_yes(meaning.is_outage)} "
        f"| {_yes(meaning.is_refusal)} | {meaning.message} |"
        for problem, meaning in MEANINGS.items()
    ]
    return "\n".join(
        [
            MADE_BY,
            "# Problems of calls\n",
            "What can go wrong when a model or a service is called, by the word that stands in a reason and in",
            "`attempts[].call.problem` of `agentflow show --json`. A provider's own words are never kept.\n",
            "- **outage**: it counts against the endpoint in its circuit breaker.",
            "- **nothing used**: the other side said that it did nothing, so the reservation goes back.",
            "- **message**: what `retry: {on_messages: [...]}` is matched against.\n",
            "| problem | the call | what becomes of the step | outage | nothing used | message |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


_REMEDIES = {
    "retry": "tried again, as its `retry` says",
    "wait": "put off until the moment that the other side named, and no attempt is spent; without one: tried again, as "
    "its `retry` says",
    "give_up": "failed",
    "shorten": "failed: a shorter prompt would help",
}


def _yes(holds: bool) -> str:
    return "yes" if holds else ""


def openapi_document() -> str:
    """The description of the HTTP API, as it is served."""
    from agentflow.api.app import make_app
    from agentflow.api.description import describe

    nowhere = Settings.model_validate({"database_url": "postgresql://nowhere/none", "redis_url": "redis://nowhere"})
    return json.dumps(describe(make_app(nowhere)), indent=1, ensure_ascii=False) + "\n"


PAGES = {
    "python.md": python_page,
    "settings.md": settings_page,
    "cli.md": cli_page,
    "call-problems.md": problems_page,
    "openapi.json": openapi_document,
}


def main() -> int:
    """Write the pages, or check them; returns the exit code."""
    stale = []
    for name, write in PAGES.items():
        path, page = FOLDER / name, write()
        if "--check" not in sys.argv:
            path.write_text(page, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != page:
            stale.append(name)
    if stale:
        sys.stderr.write(f"not what the code says: {', '.join(stale)}; run python docs/generate_reference.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
