"""A stack in a process of its own, and the line between it and whoever started it.

Owns `python -m agentflow.stack.background` and its launcher. The line is a socket: the stack tells its news on it, one
JSON object a line, and lives only as long as the launcher holds the other end, unless it is let go ("keep"). So nothing
stays behind a launcher that is killed before the stack is ready, nor behind a demo that is.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentflow import telemetry
from agentflow.domain.error import AgentflowError, ConfigurationError, ContentError, ServersUnreachable, StoreMismatch
from agentflow.embedded import AlreadyRunning, StackState, process_started, read_state
from agentflow.embedded.child import ServerLog
from agentflow.settings import load_settings
from agentflow.stack.home import last_lines, log_directory
from agentflow.stack.supervision import READY_SECONDS, NewsKind, Stack, StackOptions
from agentflow.stack.wishes import Wishes

KEEP = b"keep\n"
_LOOK_SECONDS = 0.05
_ERRORS = {error.code: error for error in (ConfigurationError, ContentError, ServersUnreachable, StoreMismatch)}


class BackgroundStack:
    """A stack that this process started, as its launcher sees it."""

    def __init__(self, home: Path, options: StackOptions) -> None:
        self._home = home.absolute()
        self._log = ServerLog(log_directory(self._home) / "up.log")
        self._line, theirs = socket.socketpair()
        with theirs, self._log.open() as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "agentflow.stack.background", *_arguments(options)],
                stdin=theirs.fileno(),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "AGENTFLOW_HOME": str(self._home)},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that keeps the stack."""
        return self._process.pid

    def news(self) -> Iterator[tuple[NewsKind, str]]:
        """What the stack tells, until it is ready.

        AlreadyRunning: another process keeps this home's stack. Other AgentflowErrors: why it did not start; by then
        nothing of it runs.
        """
        with self._line.makefile("rb") as lines:
            for line in lines:
                news = json.loads(line)
                if "failed" in news:
                    self._process.wait()
                    raise self._error(news)
                yield news["kind"], news["text"]
                if news["kind"] == "ready":
                    return
        code = self._process.wait()
        raise ConfigurationError(
            f"The stack ended with exit code {code} before it was ready. "
            f"The last lines of {self._log.path}:\n{last_lines(self._log)}",
            log=str(self._log.path),
        )

    def keep(self) -> None:
        """Let the stack go: from now on it lives without its launcher."""
        with suppress(OSError):
            self._line.sendall(KEEP)
        self._line.close()

    def end(self) -> None:
        """Have the stack end, and wait until it has; the steps that run get their grace time."""
        self._line.close()
        self._process.wait()

    def _error(self, news: dict[str, Any]) -> AgentflowError:
        if news["failed"] == AlreadyRunning.code:
            return AlreadyRunning(self._home, news["pid"])
        return _ERRORS.get(news["failed"], AgentflowError)(news["message"])


def await_ready_elsewhere(home: Path, other: AlreadyRunning) -> StackState:
    """Wait until the stack that another process is starting can be used; returns what is to be known of it.

    Raises ``other`` when it cannot be used within a minute, or ends.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and (other.pid is None or process_started(other.pid) is not None):
        if (state := read_state(home)) is not None:
            return state
        time.sleep(_LOOK_SECONDS)  # the other process is not our child, and tells its news to its own launcher
    raise other


class OwnerLine:
    """The line as the stack sees it."""

    def __init__(self, line: socket.socket) -> None:
        self.socket: socket.socket | None = line

    def tell(self, **news: Any) -> None:
        """Tell the launcher, if there still is one."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.sendall(json.dumps(news).encode() + b"\n")

    def hear(self) -> bool:
        """Take what the launcher said; whether it is gone without letting the stack go."""
        try:
            said = self.socket.recv(len(KEEP)) if self.socket is not None else KEEP
        except ConnectionResetError:  # it went with news unread
            said = b""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        return said != KEEP


def main(arguments: Sequence[str]) -> int:
    """Keep a stack until a signal or the end of the line; 0 after a stop, 1 after a failure."""
    settings = load_settings()
    telemetry.configure(log_format=settings.log_format, level="info", is_redacting=settings.is_redacting)
    log = telemetry.get_logger(__name__)
    own_log = ServerLog(log_directory(settings.home.absolute()) / "up.log")
    line = OwnerLine(socket.socket(fileno=0))

    def tell(kind: NewsKind, text: str) -> None:
        own_log.trim()
        log.info("stack_changed", kind=kind, text=text)
        line.tell(kind=kind, text=text)

    try:
        with Wishes() as wishes:
            Stack(settings, _options(arguments), tell, owner=line).run(wishes)
    except KeyboardInterrupt:
        return 0
    except AgentflowError as error:
        log.warning("stack_failed", code=error.code, error=str(error))
        line.tell(failed=error.code, message=str(error), pid=getattr(error, "pid", None))
        return 1
    return 0


def _arguments(options: StackOptions) -> list[str]:
    wanted = {"flower": options.has_flower, "beat": options.has_beat, "api": options.has_api}
    return [str(options.concurrency), *(name for name, is_wanted in wanted.items() if is_wanted)]


def _options(arguments: Sequence[str]) -> StackOptions:
    concurrency, *wanted = arguments
    has_flower, has_beat, has_api = (name in wanted for name in ("flower", "beat", "api"))
    return StackOptions(int(concurrency), has_flower, has_beat, has_api)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
