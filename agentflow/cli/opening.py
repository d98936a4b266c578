"""Opening the client for a verb, with logs on stderr; and the way back from typed words to values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentflow.client import AgentFlow, LoadedPlan, Run

PLAN_SUFFIXES = (".yaml", ".yml", ".json")


@contextmanager
def opened(*, is_read: bool = False) -> Iterator[AgentFlow]:
    """Open the client of the environment's installation, or of the stack that is up.

    ``is_read``: the verb asks the servers before all else, so that where there are none this is said at once.
    """
    from agentflow.cli.unreachable import check_named
    from agentflow.settings import load_settings

    settings = load_settings()
    if is_read:
        check_named(settings)
    from agentflow import telemetry
    from agentflow.client import AgentFlow

    # What goes wrong is told in the verbs' own words; the lines of the libraries below are for who looks for a bug.
    telemetry.configure(level="debug" if settings.log_level == "debug" else "error")
    with AgentFlow(settings) as flow:
        yield flow


@contextmanager
def opened_run(reference: str, project: str | None) -> Iterator[Run]:
    """Open the run that a person names."""
    with opened(is_read=True) as flow:
        yield flow.get(reference, project=project)


def find_plan(flow: AgentFlow, reference: str, project: str | None) -> tuple[LoadedPlan, str | None]:
    """Return the plan in the file ``reference``, or stored under that name, and the project of its run.

    A file that is there, or a workflow directory, comes first, and what is written like a file is nothing else.
    NotFound tells what was looked for. A stored plan runs where it is stored.
    """
    from agentflow.client import Plan
    from agentflow.domain.error import NotFound

    path = Path(reference)
    is_workflow = (path / "workflow.yaml").is_file()
    if path.is_file() or is_workflow or path.name != reference or path.suffix.lower() in PLAN_SUFFIXES:
        return Plan.load(path), project
    where = project or flow.settings.project
    try:
        return flow.stored_plan(reference, project=where), where
    except NotFound as error:
        raise NotFound(
            f"There is no plan file {reference!r} (looked in {Path.cwd()}). {error}", **error.details
        ) from None


def read_vars(written: Sequence[str] | None) -> dict[str, str]:
    """Read ``NAME=VALUE`` options; of a name given twice the last one counts. UsageError for anything else."""
    from agentflow.domain.error import UsageError

    values = {}
    for each in written or ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UsageError(f"--var takes NAME=VALUE, not {each!r}.")
        values[name] = value
    return values


def read_caps(written: Sequence[str] | None) -> dict[str, Any] | None:
    """Read ``KIND=CAP`` options into a plan's form; of a kind given twice the last one counts. None without any."""
    from agentflow.domain.error import UsageError

    caps: dict[str, Any] = {}
    for each in written or ():
        kind, equals, cap = each.partition("=")
        if not equals or not kind:
            raise UsageError(f"--budget takes KIND=CAP, such as tokens=5000 or usd=0.50, not {each!r}.")
        caps[kind] = _number(cap)
    return caps or None


def read_seconds(written: str | None) -> float | None:
    """Read a duration with its unit into seconds. UsageError for anything else."""
    from agentflow.domain.duration import parse_duration
    from agentflow.domain.error import UsageError

    if written is None:
        return None
    try:
        return parse_duration(written)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def _number(text: str) -> int | float | str:
    """Return a number as YAML would read it, everything else as text."""
    if re.fullmatch(r"[+-]?\d{1,400}", text, re.ASCII):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?\d*\.?\d+([eE][+-]?\d+)?", text, re.ASCII) else text
