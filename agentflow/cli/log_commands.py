"""The verb ``logs``: what the commands of a run wrote, from the files that were kept of it."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TextIO

import typer

from agentflow.cli import exit_codes, options, printing
from agentflow.cli.opening import opened_run

if TYPE_CHECKING:
    from agentflow.client import ArtifactView, Run
    from agentflow.client.run_logs import LogChunk

Step = Annotated[str | None, typer.Argument(metavar="[STEP]", help="One step; all of them without it.")]
Stderr = Annotated[bool, typer.Option("--stderr", help="Print stderr instead of both.")]
Attempt = Annotated[int | None, typer.Option("--attempt", min=1, help="Which attempt; the last one without it.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended or rests.")]
_BLOCK_CHARACTERS = 1 << 16


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel=options.FILES)(logs)


def logs(
    run_reference: options.RunReference,
    step: Step = None,
    stderr: Stderr = False,
    attempt: Attempt = None,
    follow: Follow = False,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Print what commands wrote: their stdout on stdout, their stderr on stderr.

    With -f it is printed as it is written, line by line, until the run has ended or rests; where there are several
    steps, each line begins with its step.
    """
    from agentflow.domain.error import UsageError

    if follow and as_json:
        raise UsageError("--json goes without --follow: there is one answer.")
    with opened_run(run_reference, project) as found:
        if step is not None:
            found.step(step)
        streams = ("stderr",) if stderr else ("stdout", "stderr")
        if follow:
            _follow(found, step, streams)
            raise typer.Exit(exit_codes.of_state(found.refresh().state))
        kept = _chosen(found.kept(step), streams, attempt)
        if as_json:
            logged = [_as_json(found, one) for one in kept]
            printing.print_json({"schema": "agentflow.logs/1", "run": found.id, "logs": logged})
            return
        if not kept:
            printing.note(f"Nothing is kept of {f'step {step}' if step else f'run {found.id[:8]}'}.")
        _print(found, kept, has_headers=step is None, to_stdout=stderr)


def _chosen(kept: Iterable[ArtifactView], streams: tuple[str, ...], attempt: int | None) -> list[ArtifactView]:
    """Keep the wanted streams, of the wanted attempt or of each step's last one that left something."""
    of_streams = [one for one in kept if one.kind in streams]
    last = {one.step: one.attempt for one in of_streams}  # attempts come in their order
    return [one for one in of_streams if one.attempt == (attempt or last[one.step])]


def _print(found: Run, kept: Iterable[ArtifactView], *, has_headers: bool, to_stdout: bool) -> None:
    shown = None
    for one in kept:
        if has_headers and one.bytes and shown != (one.step, one.attempt):
            shown = (one.step, one.attempt)
            print(f"==> {one.step} (attempt {one.attempt}) <==", flush=True)
        _copy(found, one, is_error=one.kind == "stderr" and not to_stdout)


def _copy(found: Run, one: ArtifactView, *, is_error: bool) -> None:
    stream = sys.stderr if is_error else sys.stdout
    with found.open_artifact(one) as file:
        stream.flush()
        if stream.isatty():
            _show(file, stream)
        else:
            shutil.copyfileobj(file, stream.buffer)
            stream.buffer.flush()
    if one.is_cut:
        printing.note(cut_note(one))


def _show(file: BinaryIO, terminal: TextIO) -> None:
    """Copy to a terminal, with nothing in it that the terminal would act on but lines and tabs."""
    from agentflow.cli.words import printable

    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline=None)
    while block := text.read(_BLOCK_CHARACTERS):
        terminal.write(printable(block, "\n\t"))
    terminal.flush()


def cut_note(one: ArtifactView) -> str:
    """Return what is missing of a stream that was cut, as far as that is known."""
    from agentflow.cli.words import size

    if one.bytes == one.bytes_seen:  # its keeping was broken off: what came later was seen by nobody
        return f"[{one.kind} of {one.step} may be incomplete: {size(one.bytes)} were kept]"
    return f"[cut: {one.kind} of {one.step} was {size(one.bytes_seen)}, {size(one.bytes)} were kept]"


def _follow(found: Run, step: str | None, streams: tuple[str, ...]) -> None:
    """Print what the commands write, as they write it; where there are several steps, each line with its step."""
    is_named = step is None and len(found.steps) > 1
    for chunk in found.follow_logs(step, streams=streams):
        is_error = chunk.stream == "stderr" and streams != ("stderr",)
        _write(_named(chunk) if is_named else chunk.data, sys.stderr if is_error else sys.stdout)
    for one in found.kept(step):
        if one.is_cut and one.kind in streams:
            printing.note(cut_note(one))


def _named(chunk: LogChunk) -> bytes:
    """Begin each line with its step; one that has no end gets one, for what follows may be another step's."""
    which = f" ({chunk.attempt})" if chunk.attempt > 1 else ""
    lines = chunk.data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return b"".join(f"{chunk.step}{which} | ".encode() + line + b"\n" for line in lines)


def _write(data: bytes, stream: TextIO) -> None:
    if stream.isatty():
        _show(io.BytesIO(data), stream)
    else:
        stream.buffer.write(data)
    stream.flush()


def _as_json(found: Run, one: ArtifactView) -> dict[str, Any]:
    with found.open_artifact(one) as file:
        text = file.read().decode("utf-8", errors="replace")
    stream = {"step": one.step, "attempt": one.attempt, "stream": one.kind}
    size = {"bytes": one.bytes, "bytes_seen": one.bytes_seen, "is_cut": one.is_cut, "sha256": one.sha256}
    return stream | size | {"text": text}
