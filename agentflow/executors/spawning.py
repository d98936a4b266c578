"""Starts the main process of a command in a clean world, or says in words why it cannot.

Owns what the process inherits: its own session, default signals, files 0, 1 and 2 only, death with the supervisor.
Standard library only: the command supervisor loads this module without the rest of agentflow.
"""

from __future__ import annotations

import errno
import os
import subprocess
from functools import partial

from agentflow.executors.process_tree import die_with_parent

# Spelled out, not imported: typing costs the supervisor a tenth of its start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentflow.executors.masking import Masker


class NotStartedError(Exception):
    """The command cannot be started; ``problem`` is a command.StartProblem's value, the text says what and where."""

    def __init__(self, problem: str, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.problem = problem
        self.errno_name = errno.errorcode.get(number or 0)
        self._number = number

    def masked(self, masker: Masker) -> NotStartedError:
        """The same with the secrets in its text masked."""
        text = masker.whole(str(self).encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
        return NotStartedError(self.problem, text, self._number)


def spawn(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, stdin: str | None, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in ``cwd``; ``stdin`` is a file's path (None: empty), ``stdout`` and ``stderr`` descriptors.

    The program is looked up on the PATH of ``env``. The caller reaps the process. Raises NotStartedError.
    """
    if not argv or not argv[0]:
        raise NotStartedError("command_empty", "the command is empty")
    try:
        source = os.open(stdin or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotStartedError(
            "stdin_unreadable", f"its standard input {stdin} cannot be read: {error.strerror}", error.errno
        ) from error
    try:
        # preexec_fn is safe here: the supervisor has one thread.
        return subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=source,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        problem, text = _explain(error, argv[0], env, cwd)
        raise NotStartedError(problem, text, getattr(error, "errno", None)) from error
    finally:
        os.close(source)


def _explain(error: Exception, program: str, env: Mapping[str, str], cwd: str) -> tuple[str, str]:
    if not isinstance(error, OSError):  # a NUL in an argument, "=" in a variable's name
        return "arguments_unusable", f"its arguments or environment cannot be passed on: {error}"
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR):
        return _explain_paths(error, program, env, cwd)
    if error.errno == errno.E2BIG:
        return (
            "arguments_too_long",
            "its arguments and environment are longer than the system allows; pass large data in a file or on stdin",
        )
    if error.errno == errno.ENOEXEC:
        return "program_not_executable", f"{program!r} is not a program: no binary of this machine and no #! line"
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return "no_room", f"the machine has no room for another process: {error.strerror}"
    return "system_error", f"{program!r} in {cwd}: {error.strerror}"


def _explain_paths(error: OSError, program: str, env: Mapping[str, str], cwd: str) -> tuple[str, str]:
    from pathlib import Path  # here: it would add a sixth to the start of a supervisor, and only failures need it

    if not Path(cwd).is_dir():
        return "cwd_missing", f"the directory {cwd} does not exist"
    if not os.access(cwd, os.X_OK):
        return "cwd_closed", f"the directory {cwd} cannot be entered: permission denied"
    if "/" not in program:
        path = ":".join(os.get_exec_path(env))
        if error.errno == errno.EACCES:
            return "program_not_executable", f"the program {program!r} is not executable on PATH ({path})"
        return "program_not_found", f"the program {program!r} was not found on PATH ({path})"
    place = Path(cwd, program)
    if place.is_dir():
        return "program_not_executable", f"{program!r} in {cwd} is a directory"
    if not place.exists():
        return "program_not_found", f"the program {program!r} does not exist in {cwd}"
    if os.access(place, os.X_OK):
        return (
            "interpreter_missing",
            f"{program!r} in {cwd} names an interpreter (#! line) that does not exist or cannot be run",
        )
    return "program_not_executable", f"{program!r} in {cwd} is not executable (chmod +x)"
