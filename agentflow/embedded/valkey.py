"""The embedded Valkey: its configuration file, when it is ready, and what a former one left behind.

Owns: the server process of `HOME/valkey`. It keeps an append-only file and evicts nothing: what agentflow puts there
can be rebuilt from Postgres, but not for free. The configuration holds the password: 0600, the servers' account's own.
"""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import ClassVar

from agentflow.embedded.binaries import valkey_binary
from agentflow.embedded.paths import make_data_directory, write_private
from agentflow.embedded.ports import HOST
from agentflow.embedded.process import Stages, end_process, is_server
from agentflow.embedded.server import EmbeddedServer

_ANSWER_SECONDS = 1.0
_LISTENS = "Ready to accept connections"
_SETTINGS = {
    "bind": HOST,
    "protected-mode": "yes",
    "daemonize": "no",
    "logfile": '""',  # stdout, which is our bounded log
    "set-proc-title": "no",  # the arguments say whose server this is
    "appendonly": "yes",
    "save": '""',
    "maxmemory-policy": "noeviction",
}


class EmbeddedValkey(EmbeddedServer):
    """Valkey below ``home``, from the wheel or from PATH; ``fsync=False`` leaves all syncing to the kernel."""

    name = "valkey"
    death_signal = signal.SIGTERM
    stop_stages: ClassVar[Stages] = ((signal.SIGTERM, 10.0),)
    ready_seconds = 60.0  # it loads its append-only file first

    def __init__(self, home: Path, *, fsync: bool = True) -> None:
        super().__init__(home, fsync=fsync)
        self._binary = Path()
        self._configuration = self.directory / "valkey.conf"
        self._pid_file = self.data / "valkey.pid"

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    def prepare(self, *, is_new_password: bool) -> None:
        self._binary = valkey_binary(self.home, self.account)
        make_data_directory(self.data, self.account)
        self._end_left_behind()

    def arguments(self, port: int) -> list[str]:
        settings = {
            **_SETTINGS,
            "port": str(port),
            "dir": _quoted(str(self.data)),
            "pidfile": _quoted(str(self._pid_file)),
            "appendfsync": "everysec" if self.fsync else "no",
            "requirepass": _quoted(self._password),
        }
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        write_private(self._configuration, lines, self.account)
        return [str(self._binary), str(self._configuration)]

    def is_ready(self, pid: int) -> bool:
        """Whether it says that it listens, takes the password and answers a ping.

        Its own word comes first: until then the port may be a stranger's, who must not be told the password.
        """
        return _LISTENS in self._log.text() and self._answers()

    def _answers(self) -> bool:
        try:
            with socket.socket() as connection:
                connection.settimeout(_ANSWER_SECONDS)
                connection.connect((HOST, self._port))
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answers:
                    return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
        except OSError:
            return False

    def _end_left_behind(self) -> None:
        """End a server that outlived a former owner: two of them would write into one append-only file."""
        try:
            pid, started_at = int(self._pid_file.read_text(encoding="ascii")), self._pid_file.stat().st_mtime
        except (FileNotFoundError, ValueError):
            return
        end_process(
            pid,
            lambda: is_server(pid, self._binary.name, started_at=started_at, about=self._configuration),
            (*self.stop_stages, (signal.SIGKILL, 5.0)),
        )
        self._pid_file.unlink(missing_ok=True)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
