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


class NotStartedError(Exception):
    """The command cannot be started; the text says what and where."""


def spawn(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, stdin: str | None, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in ``cwd``; ``stdin`` is a file's path (None: empty), ``stdout`` and ``stderr`` descriptors.

    The program is looked up on the PATH of ``env``. The caller reaps the process. Raises NotStartedError.
    """
    if not argv or not argv[0]:
        raise NotStartedError("the command is empty")
    try:
        source = os.open(stdin or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotStartedError(f"its standard input {stdin} cannot be read: {error.strerror}") from error
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
        raise NotStartedError(_explain(error, argv[0], env, cwd)) from error
    finally:
        os.close(source)


def _explain(error: Exception, program: str, env: Mapping[str, str], cwd: str) -> str:
    if not isinstance(error, OSError):  # a NUL in an argument, "=" in a variable's name
        return f"its arguments or environment cannot be passed on: {error}"
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR):
        return _explain_paths(error, program, env, cwd)
    if error.errno == errno.E2BIG:
        return "its arguments and environment are longer than the system allows; pass large data in a file or on stdin"
    if error.errno == errno.ENOEXEC:
        return f"{program!r} is not a program: no binary of this machine and no #! line"
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return f"the machine has no room for another process: {error.strerror}"
    return f"{program!r} in {cwd}: {error.strerror}"


def _explain_paths(error: OSError, program: str, env: Mapping[str, str], cwd: str) -> str:
    from pathlib import Path  # here: it would add a sixth to the start of a supervisor, and only failures need it

    if not Path(cwd).is_dir():
        return f"the directory {cwd} does not exist"
    if not os.access(cwd, os.X_OK):
        return f"the directory {cwd} cannot be entered: permission denied"
    if "/" not in program:
        found = "is not executable" if error.errno == errno.EACCES else "was not found"
        return f"the program {program!r} {found} on PATH ({':'.join(os.get_exec_path(env))})"
    path = Path(cwd, program)
    if path.is_dir():
        return f"{program!r} in {cwd} is a directory"
    if not path.exists():
        return f"the program {program!r} does not exist in {cwd}"
    if os.access(path, os.X_OK):
        return f"{program!r} in {cwd} names an interpreter (#! line) that does not exist or cannot be run"
    return f"{program!r} in {cwd} is not executable (chmod +x)"
