"""The verbs about artifacts: ``artifact list`` and ``artifact get``."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened_run

if TYPE_CHECKING:
    from agentflow.client import ArtifactView, Run

Name = Annotated[str, typer.Argument(metavar="NAME", help="The artifact's name; stdout and stderr are names too.")]
Attempt = Annotated[int | None, typer.Option("--attempt", min=1, help="Which attempt; the last one without it.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file or into a folder.")
]
_CHUNK_BYTES = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    artifacts = typer.Typer(no_args_is_help=True, help="List and get the files that steps left.")
    artifacts.command("list")(list_artifacts)
    artifacts.command("get")(get_artifact)
    app.add_typer(artifacts, name="artifact", rich_help_panel=options.FILES)


def list_artifacts(
    run_reference: options.RunReference,
    step: options.StepOption = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """List what the steps of a run left, of every attempt."""
    with opened_run(run_reference, project) as found:
        if step is not None:
            found.step(step)
        kept = found.kept(step)
        if as_json:
            printing.print_json(_answer(found, [_as_json(one) for one in kept]))
            return
        _print_list(kept)


def get_artifact(
    run_reference: options.RunReference,
    name: Name,
    step: options.StepOption = None,
    attempt: Attempt = None,
    output: Output = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Print an artifact, or write it to a file; its bytes are held against their SHA-256."""
    from agentflow.domain.error import UsageError

    if as_json and output is None:
        raise UsageError("--json goes with --output: without it the artifact itself is printed.")
    with opened_run(run_reference, project) as found:
        artifact = found.find_artifact(name, step, attempt)
        if output is None:
            _refuse_binary(artifact)
            with found.open_artifact(artifact) as source:
                _copy_checked(source, sys.stdout.buffer, artifact)
            sys.stdout.buffer.flush()
            return
        path = output / Path(artifact.name).name if output.is_dir() else output
        _write(found, artifact, path)
        if as_json:
            printing.print_json(_answer(found, [_as_json(artifact) | {"file": str(path)}]))
        else:
            printing.note(f"{path}: {artifact.bytes} bytes")


def _refuse_binary(artifact: ArtifactView) -> None:
    from agentflow.domain.error import UsageError

    if sys.stdout.isatty() and not artifact.media_type.startswith(("text/", "application/json")):
        raise UsageError(f"{artifact.name} is {artifact.media_type}: write it to a file with -o FILE.")


def _write(found: Run, artifact: ArtifactView, path: Path) -> None:
    """Write beside ``path`` and move there, so that no half file stands under its name."""
    from agentflow.domain.error import UsageError

    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "wb") as target, found.open_artifact(artifact) as source:
            _copy_checked(source, target, artifact)
        Path(beside).chmod(0o666 & ~_umask())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _copy_checked(source: BinaryIO, target: BinaryIO, artifact: ArtifactView) -> None:
    from agentflow.domain.error import ContentError

    digest = hashlib.sha256()
    while block := source.read(_CHUNK_BYTES):
        digest.update(block)
        target.write(block)
    if digest.hexdigest() != artifact.sha256:
        raise ContentError(
            f"{artifact.name} of step {artifact.step} is not what was recorded: its SHA-256 is {digest.hexdigest()}, "
            f"recorded was {artifact.sha256}.",
            artifact=artifact.name,
        )


def _answer(found: Run, artifacts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema": "agentflow.artifacts/1", "run": found.id, "artifacts": artifacts}


def _as_json(artifact: ArtifactView) -> dict[str, Any]:
    return {"step": artifact.step, "attempt": artifact.attempt} | artifact.as_json()


def _print_list(kept: list[ArtifactView]) -> None:
    from rich.table import Table
    from rich.text import Text

    from agentflow.cli.words import printable, size

    if not kept:
        printing.note("No artifacts.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("step", "attempt", "name", "size", "type", "sha256"):
        table.add_column(column, no_wrap=True, justify="right" if column in ("attempt", "size") else "left")
    for one in kept:
        kept_size = size(one.bytes) + (f" of {size(one.bytes_seen)}" if one.is_cut else "")
        cells = (one.step, str(one.attempt), one.name, kept_size, one.media_type, one.sha256[:12])
        table.add_row(*(Text(printable(cell)) for cell in cells))
    printing.page(table)
