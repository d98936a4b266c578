"""One server process: a direct child whose life is bound to the thread that started it.

Owns: how a server is spawned (account, environment, signals, parent death), its bounded log, its end. It knows nothing
of PostgreSQL or Valkey. On Linux the kernel signals a child when the *thread* that started it ends, so servers are
started from a thread that lives as long as they shall: the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from agentflow.domain.error import ConfigurationError
from agentflow.embedded.paths import Account
from agentflow.embedded.process import Stages

# Nothing is inherited: the caller's environment holds secrets, and /proc/PID/environ of the servers' account shows it.
_ENVIRONMENT: Mapping[str, str] = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
_LOG_LIMIT_BYTES = 4 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
_KILL_SECONDS = 10.0  # the kernel needs a moment for a process that waits for a disk
_IGNORABLE = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def spawn(
    arguments: Sequence[str],
    account: Account | None,
    death_signal: signal.Signals,
    *,
    stdin: int = subprocess.DEVNULL,
    output: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program as the account, in a session of its own, to get ``death_signal`` when the calling thread ends.

    ConfigurationError: it cannot be started (not executable here, account not allowed, ...).
    """
    other: dict[str, Any] = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        return subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",  # the caller's directory may be closed to the account
            env=_ENVIRONMENT,
            umask=0o077,
            start_new_session=True,  # a Ctrl-C in the terminal is the owner's to handle
            preexec_fn=_binding(death_signal),  # runs after setuid, which would clear the death signal again
            **other,
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = f" as {account.name}" if account else ""
        raise ConfigurationError(f"Cannot start {arguments[0]}{who}: {error}.") from error


def _binding(death_signal: signal.Signals) -> Callable[[], None]:
    """What runs between fork and exec: bind to the parent, and unignore signals, which a caller's nohup ignores."""
    owner = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def bind() -> None:
        for ignorable in _IGNORABLE:
            signal.signal(ignorable, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != owner:  # the owner went before the kernel knew whom to watch
                os.kill(os.getpid(), signal.SIGKILL)

    return bind


class ServerLog:
    """A file that a server appends to, held near a bound by ``trim``; the part before stays as ``<name>.1``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = 0

    def open(self) -> IO[bytes]:
        """Open for a server to append to; ``text`` tells what was written since. ConfigurationError: it cannot be."""
        try:
            self.trim()
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"The log {self.path} cannot be written: {error.strerror}. Make it writable for this account, remove "
                "it, or choose another AGENTFLOW_HOME.",
                path=str(self.path),
            ) from error
        self._mark = os.fstat(handle).st_size
        return os.fdopen(handle, "wb", buffering=0)

    def text(self) -> str:
        """What the server has said since the last ``open``, at most its last 4000 characters."""
        with self.path.open("rb") as file:
            file.seek(self._mark)
            return file.read().decode(errors="replace")[-4000:]

    def trim(self, limit_bytes: int = _LOG_LIMIT_BYTES) -> None:
        """Set the log aside and begin anew when it passed the limit; lines written in that moment may be lost."""
        if not self.path.exists() or self.path.stat().st_size <= limit_bytes:
            return
        older = self.path.with_name(f"{self.path.name}.1")
        older.unlink(missing_ok=True)
        older.touch(mode=0o600)
        older.write_bytes(self.path.read_bytes())
        self._mark = 0
        os.truncate(self.path, 0)  # the server goes on in the same file: it opened it for appending


class Child:
    """A running server."""

    def __init__(
        self, arguments: Sequence[str], account: Account | None, log: ServerLog, death_signal: signal.Signals
    ) -> None:
        with log.open() as output:
            self._popen = spawn(arguments, account, death_signal, output=output)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def is_running(self) -> bool:
        """Whether it lives; one that ended is reaped."""
        return self._popen.poll() is None

    def has_ended(self, seconds: float) -> bool:
        """Wait for its end, at most so long; whether it came."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        self._popen.send_signal(number)

    def end(self, stages: Stages) -> None:
        """Go through the stages, a signal and the seconds it gets, until the process has ended; SIGKILL closes them."""
        for stage, seconds in (*stages, (signal.SIGKILL, _KILL_SECONDS)):
            self.signal(stage)
            if self.has_ended(seconds):
                return
