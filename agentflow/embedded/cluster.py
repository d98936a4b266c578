"""The data directory of the embedded PostgreSQL: made whole or not at all, and checked before use.

Owns: initdb, the role and database `agentflow`, the version check. A cluster is made under a temporary name and renamed
when it is complete, so a kill half-way leaves nothing that looks like one. Running it is postgres.py's work.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentflow.domain.error import ConfigurationError
from agentflow.embedded.child import spawn
from agentflow.embedded.paths import Account, give, sync_directory

ROLE = DATABASE = "agentflow"
_TOOL_SECONDS = 120.0
_BUILTIN_LOCALE_SINCE = 17
_COMMON_OPTIONS = ("--username=postgres", "--auth=reject", "--encoding=UTF8", "--data-checksums", "--no-sync")


@dataclass(frozen=True, slots=True)
class Cluster:
    """One data directory and the binaries that it is for."""

    data: Path
    binaries: Path
    account: Account | None
    fsync: bool

    def major_version(self) -> int:
        """The major version of the binaries."""
        said = self._run("postgres", "--version")
        if found := re.search(r"\(PostgreSQL\) (\d+)", said):
            return int(found[1])
        raise ConfigurationError(f"{self.binaries / 'postgres'} is no PostgreSQL: it says {said.strip()!r}.")

    def check_version(self, major: int) -> None:
        """ConfigurationError: the data were written by another major version, or are no cluster."""
        try:
            found = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise ConfigurationError(f"{self.data} is not a PostgreSQL data directory; move it away.") from None
        if found != str(major):
            raise ConfigurationError(
                f"{self.data} was written by PostgreSQL {found}, the binaries are PostgreSQL {major}. Carry the data "
                f"over with pg_dump of version {found}, or move the directory away to begin with an empty database.",
                found=found,
                expected=str(major),
            )

    def create(self, major: int, password: str) -> None:
        """Make the cluster with its role and database. ConfigurationError: initdb failed; its words are told."""
        for half in self.data.parent.glob("new-*"):
            shutil.rmtree(half, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(dir=self.data.parent, prefix="new-"))
        give(fresh, self.account)
        self._run("initdb", f"--pgdata={fresh}", *_COMMON_OPTIONS, *_locale_options(major))
        self._single_user(
            fresh,
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'",
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
            fsync=False,
        )
        if self.fsync:
            self._run("initdb", f"--pgdata={fresh}", "--sync-only")
        fresh.rename(self.data)
        if self.fsync:
            sync_directory(self.data.parent)

    def set_password(self, password: str) -> None:
        """Give the role another password; the server must not run."""
        self._single_user(self.data, f"ALTER ROLE {ROLE} PASSWORD '{password}'", fsync=self.fsync)

    def _single_user(self, data: Path, *statements: str, fsync: bool) -> None:
        """Run statements without a server. They come by stdin: what they say stands in no argument and no log."""
        settings = ("exit_on_error=on", "log_min_error_statement=panic", "log_checkpoints=off", f"fsync={fsync}")
        options = [word for setting in settings for word in ("-c", setting)]
        script = "".join(f"{statement};\n\n" for statement in statements)
        self._run("postgres", "--single", "-j", "-D", str(data), *options, "template1", script=script)

    def _run(self, tool: str, *arguments: str, script: str = "") -> str:
        command: Sequence[str] = [str(self.binaries / tool), *arguments]
        process = spawn(command, self.account, signal.SIGKILL, stdin=subprocess.PIPE, output=subprocess.PIPE)
        try:
            output, _ = process.communicate(script.encode(), timeout=_TOOL_SECONDS)
        except BaseException:  # a timeout or an interrupt: the tool must not go on behind our back
            process.kill()
            process.communicate()
            raise
        if process.returncode != 0:
            said = output.decode(errors="replace").strip()[-2000:]
            raise ConfigurationError(f"{command[0]} failed with exit code {process.returncode}. It said:\n{said}")
        return output.decode(errors="replace")


def _locale_options(major: int) -> tuple[str, ...]:
    """The same order by code point and the same letters everywhere, whatever the machine's locales."""
    if major >= _BUILTIN_LOCALE_SINCE:
        return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    return ("--locale=C.UTF-8",)
