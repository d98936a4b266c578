"""Performs ``subprocess``: a command in the attempt's own directory, under a supervisor.

Owns the layout of that directory, the command's world and what is read back from it. Rendering templates and laying in
files come before, judging the exit code and storing what was found come after; both are the engine's. In scratch:

    work/         the work directory, files and inputs already laid in; ``cwd`` is relative to it
    artifacts/    $AGENTFLOW_ARTIFACTS: what is put there becomes an artifact
    output.json   $AGENTFLOW_OUTPUT: becomes the step's result, if the command writes it
    stdout, stderr
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from agentflow.domain.action import SubprocessAction
from agentflow.executors.artifact_search import ArtifactSearch
from agentflow.executors.base import Assignment, FoundArtifact, Lifeline, Performance, Refusal
from agentflow.executors.command import Command, CommandResult, Ended, StartProblem
from agentflow.executors.masking import Masker
from agentflow.executors.regular_file import open_regular
from agentflow.executors.supervisor_link import spellings
from agentflow.executors.supervisor_pool import SupervisorPool

_SHELL = ("/bin/sh", "-c")


class _UnusableError(Exception):
    """The action cannot be carried out as it stands; the text says why and may quote rendered values."""

    def __init__(self, problem: StartProblem, text: str) -> None:
        super().__init__(text)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the things of one attempt are; all paths absolute and free of links."""

    work: Path
    artifacts: Path
    output: Path
    stdout: Path
    stderr: Path

    @classmethod
    def under(cls, scratch: Path) -> Layout:
        """Lay out ``scratch``; raises OSError."""
        root = scratch.resolve(strict=True)
        layout = cls(root / "work", root / "artifacts", root / "output.json", root / "stdout", root / "stderr")
        layout.work.mkdir(mode=0o700, exist_ok=True)
        layout.artifacts.mkdir(mode=0o700, exist_ok=True)
        return layout


class SubprocessExecutor:
    """Runs commands under the supervisors of this process."""

    action = "subprocess"
    queue = "commands"

    def __init__(self) -> None:
        self._pool = SupervisorPool()

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Run the command to its end and collect what it made.

        Artifacts and output are collected if the command ended by itself or timed out. Raises TypeError for an
        action of another type.
        """
        if not isinstance(assignment.action, SubprocessAction):
            raise TypeError(f"a subprocess action is performed here, not {assignment.action.type!r}")
        try:
            layout = Layout.under(assignment.scratch)
            command = _command(assignment, assignment.action, layout)
        except _UnusableError as problem:
            return _not_started(assignment, problem.problem, str(problem))
        except OSError as error:
            text = f"its directory {error.filename}: {error.strerror}"
            return _not_started(assignment, StartProblem.DIRECTORY_ERROR, text, error.errno)
        result = self._pool.run(command, lifeline)
        return _collect(assignment, layout, command, result, lifeline)

    def close(self) -> None:
        """End the idle supervisors; commands that still run are ended by their lifelines."""
        self._pool.close()


def _not_started(assignment: Assignment, problem: StartProblem, text: str, number: int | None = None) -> Performance:
    message = _masked(text.encode("utf-8", "surrogateescape"), assignment).decode("utf-8", "replace")
    name = errno.errorcode.get(number or 0)
    return Performance(Ended.NOT_STARTED, message=message, problem=problem, problem_errno=name)


def _masked(content: bytes, assignment: Assignment) -> bytes:
    masks = (mask.encode("utf-8", "surrogateescape") for mask in spellings(assignment.masks))
    return Masker(masks).whole(content)


def _command(assignment: Assignment, action: SubprocessAction, layout: Layout) -> Command:
    return Command(
        argv=_argv(action),
        env=_environment(assignment, action, layout),
        cwd=_working_directory(action.cwd, layout.work),
        stdin=assignment.stdin,
        stdout=layout.stdout,
        stderr=layout.stderr,
        output_limit_bytes=assignment.limits.output_bytes,
        masks=assignment.masks,
        timeout_seconds=assignment.timeout_seconds,
        kill_grace_seconds=assignment.kill_grace_seconds,
    )


def _argv(action: SubprocessAction) -> tuple[str, ...]:
    if isinstance(action.command, str):
        if not action.shell:
            raise _UnusableError(StartProblem.SHELL_MISMATCH, "its command is a string, which needs shell: true")
        return (*_SHELL, action.command)
    if action.shell:
        text = "its command is a list, which shell: true cannot run; write one string"
        raise _UnusableError(StartProblem.SHELL_MISMATCH, text)
    return action.command


def _environment(assignment: Assignment, action: SubprocessAction, layout: Layout) -> dict[str, str]:
    return {
        **assignment.environment,
        **action.env,
        "AGENTFLOW_RUN_ID": assignment.run_id,
        "AGENTFLOW_STEP_ID": assignment.step_key,
        "AGENTFLOW_ATTEMPT": str(assignment.attempt),
        "AGENTFLOW_ARTIFACTS": str(layout.artifacts),
        "AGENTFLOW_OUTPUT": str(layout.output),
    }


def _working_directory(cwd: str, work: Path) -> Path:
    if Path(cwd).is_absolute():
        text = f"its cwd {cwd!r} is absolute; it is relative to the work directory"
        raise _UnusableError(StartProblem.CWD_OUTSIDE, text)
    directory = (work / cwd).resolve()
    if not directory.is_relative_to(work):
        raise _UnusableError(StartProblem.CWD_OUTSIDE, f"its cwd {cwd!r} leads out of the work directory")
    if not directory.is_dir():
        raise _UnusableError(StartProblem.CWD_MISSING, f"its cwd {cwd!r} is no directory in the work directory")
    return directory


def _collect(
    assignment: Assignment, layout: Layout, command: Command, result: CommandResult, lifeline: Lifeline
) -> Performance:
    artifacts: tuple[FoundArtifact, ...] = ()
    refusals: Counter[Refusal] = Counter()
    output: bytes | None = None
    if result.ended in (Ended.EXITED, Ended.TIMED_OUT):
        artifacts, refusals = _search(assignment, layout, command, result, lifeline)
        output = _read_output(layout.output, assignment, refusals)
    return Performance(
        ended=result.ended,
        exit_code=result.exit_code,
        signal=result.signal,
        duration_seconds=result.duration_seconds,
        message=result.message,
        problem=result.problem,
        problem_errno=result.problem_errno,
        stdout=result.stdout,
        stderr=result.stderr,
        artifacts=artifacts,
        output=output,
        refusals=refusals,
    )


def _search(
    assignment: Assignment, layout: Layout, command: Command, result: CommandResult, lifeline: Lifeline
) -> tuple[tuple[FoundArtifact, ...], Counter[Refusal]]:
    limit = assignment.limits.artifact_files
    search = ArtifactSearch(layout.work, layout.artifacts, limit, lambda: lifeline.stop_reason is not None)
    search.search_directory()
    search.search_announcements(layout.stdout, command.cwd)
    if result.stdout is not None and result.stdout.is_cut:
        search.refusals[Refusal.STDOUT_CUT] += 1
    return tuple(search.found.values()), search.refusals


def _read_output(path: Path, assignment: Assignment, refusals: Counter[Refusal]) -> bytes | None:
    limit = assignment.limits.result_bytes + 1
    try:
        with open_regular(path) as file:
            content = file.read(limit)
    except FileNotFoundError:
        return None
    except OSError:
        refusals[Refusal.OUTPUT_NOT_REGULAR] += 1
        return None
    return _masked(content, assignment)[:limit]
