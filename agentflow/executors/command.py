"""What is asked of the command supervisor and what it answers: values only.

Owns Command, CommandResult and their parts. Starting and ending processes is the supervisor's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Ended(StrEnum):
    """How work came to its end."""

    EXITED = "exited"
    """By itself: with an exit code, or by a signal that agentflow did not send."""
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    """Its lifeline told it to, or its lease was not renewed in time."""
    NOT_STARTED = "not_started"
    SUPERVISOR_LOST = "supervisor_lost"
    """The process that supervised it died; what it ran was killed, how far it came is unknown."""


class StartProblem(StrEnum):
    """Why a command could not be started: what a row may say of it, for it holds no value of the command."""

    PROGRAM_NOT_FOUND = "program_not_found"
    PROGRAM_NOT_EXECUTABLE = "program_not_executable"
    INTERPRETER_MISSING = "interpreter_missing"
    COMMAND_EMPTY = "command_empty"
    ARGUMENTS_UNUSABLE = "arguments_unusable"
    ARGUMENTS_TOO_LONG = "arguments_too_long"
    SHELL_MISMATCH = "shell_mismatch"
    CWD_MISSING = "cwd_missing"
    CWD_OUTSIDE = "cwd_outside"
    CWD_CLOSED = "cwd_closed"
    """It may not be entered."""
    STDIN_UNREADABLE = "stdin_unreadable"
    STREAM_UNWRITABLE = "stream_unwritable"
    DIRECTORY_ERROR = "directory_error"
    """The attempt's own directory cannot be used."""
    NO_ROOM = "no_room"
    """The machine has no memory or no number for another process."""
    NO_SUPERVISOR = "no_supervisor"
    SYSTEM_ERROR = "system_error"
    CALL_NOT_ALLOWED = "call_not_allowed"
    """The worker's settings do not allow the function of a python step."""
    CALL_NOT_FOUND = "call_not_found"
    """There is no such function, or it cannot be imported."""


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """What became of one output stream; ``path`` holds the first ``bytes_kept`` bytes of its masked form."""

    path: Path
    bytes_seen: int
    """As the command wrote them, before secrets were masked."""
    bytes_kept: int
    sha256: str
    """Of the kept bytes, in hex."""
    is_cut: bool
    """Whether ``path`` lacks something that was written."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command and its world; the environment is complete, nothing is added from the worker's."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stdin: Path | None
    """A file; None is an empty standard input."""
    stdout: Path
    stderr: Path
    output_limit_bytes: int
    """For each of the two streams."""
    masks: tuple[str, ...]
    """Texts that must not appear in what is kept; each becomes ``***``."""
    timeout_seconds: float
    kill_grace_seconds: float
    """Between SIGTERM and SIGKILL, each to the whole process tree."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What happened to a command. It is given out only when no process of the command is left.

    Both streams are None if the command was not started.
    """

    ended: Ended
    exit_code: int | None = None
    """Of the main process; 124 if it timed out, None if a signal ended it."""
    signal: int | None = None
    """The signal that ended the main process."""
    duration_seconds: float = 0.0
    """From the start until no process was left."""
    stdout: StreamRecord | None = None
    stderr: StreamRecord | None = None
    message: str | None = None
    """What a person should know beside the exit code; may quote the command's words, with secrets masked."""
    problem: StartProblem | None = None
    """Why it was not started."""
    problem_errno: str | None = None
    """The name of the system's error behind ``problem``, such as ENOSPC."""
