"""The embedded PostgreSQL: its settings, when it is ready, and what a former one left behind.

Owns: the server process of `HOME/postgres`. The role `agentflow` is an ordinary one, owner of its database and allowed
to make further ones, as on a server of one's own; the superuser has no password and can be reached from nowhere.
"""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import ClassVar

from agentflow.embedded.binaries import postgres_binaries
from agentflow.embedded.cluster import DATABASE, ROLE, Cluster
from agentflow.embedded.paths import check_owner, write_private
from agentflow.embedded.ports import HOST
from agentflow.embedded.process import Stages, end_process, is_server, process_arguments, processes_in
from agentflow.embedded.server import EmbeddedServer

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path may have 107 bytes only, a home may be deeper
    "cluster_name": "agentflow",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",  # short statements only; containers give little /dev/shm
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # the text of a statement is nobody's to read in a log
    "password_encryption": "scram-sha-256",
}
_SETTINGS_SINCE_18 = {"io_method": "sync"}  # no worker processes for the reads of a small database
# Commits still reach the kernel before they are answered: the death of PostgreSQL alone loses none.
_WITHOUT_FSYNC = {"fsync": "off", "full_page_writes": "off"}
_CLIENTS = f"""# Written at every start. Clients come over TCP, with a password; there is no other way in.
host all all {HOST}/32 scram-sha-256
"""
_LEFT_BEHIND: Stages = ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL below ``home``, from the wheel, or from ``binaries`` (a directory with initdb and postgres).

    ``fsync=False`` is for tests only: a crash of the machine may then cost the whole database.
    """

    name = "postgres"
    death_signal = signal.SIGINT
    stop_stages: ClassVar[Stages] = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))  # fast, then immediate shutdown
    ready_seconds = 120.0  # after a crash it replays its log first

    def __init__(self, home: Path, *, fsync: bool = True, binaries: Path | None = None) -> None:
        super().__init__(home, fsync=fsync)
        self._given_binaries = binaries
        self._binaries = Path()
        self._major = 0

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}:{self._password}@{HOST}:{self._port}/{DATABASE}"

    def prepare(self, *, is_new_password: bool) -> None:
        self._binaries = self._given_binaries or postgres_binaries(self.home, self.account)
        cluster = Cluster(self.data, self._binaries, self.account, self.fsync)
        self._major = cluster.major_version()
        if not self.data.exists():
            cluster.create(self._major, self._password)
        else:
            check_owner(self.data, self.account)
            cluster.check_version(self._major)
            self._end_left_behind()
            if is_new_password:  # the password file is gone, the data are not
                cluster.set_password(self._password)
        write_private(self.directory / "pg_hba.conf", _CLIENTS, self.account)

    def arguments(self, port: int) -> list[str]:
        settings = {**_SETTINGS, "port": str(port), "hba_file": str(self.directory / "pg_hba.conf")}
        settings |= _SETTINGS_SINCE_18 if self._major >= 18 else {}
        settings |= {} if self.fsync else _WITHOUT_FSYNC
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.data), *options]

    def is_ready(self, pid: int) -> bool:
        """Read what pg_ctl reads: the server notes its state in postmaster.pid."""
        lines = self._postmaster_file()
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _end_left_behind(self) -> None:
        """End a server, or its children, that outlived a former owner; then remove the file that names it.

        The file has to go: its process id may belong to anything by now, and PostgreSQL would take that for itself.
        """
        lines = self._postmaster_file()
        if not lines:
            return
        if len(lines) >= 3:
            pid, started_at = int(lines[0]), float(lines[2])
            end_process(
                pid,
                lambda: is_server(pid, "postgres", started_at=started_at, about=self.data),
                (*self.stop_stages, (signal.SIGKILL, 5.0)),
            )
        for child in processes_in(self.data):
            end_process(child, partial(_is_backend, child), _LEFT_BEHIND)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _postmaster_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []


def _is_backend(pid: int) -> bool:
    return any(argument.startswith("postgres:") for argument in process_arguments(pid)[:1])
