"""What the stack keeps in its home beside the servers: the audit key and the logs of its own processes.

The layout of the servers' part is embedded/'s: ``HOME/postgres``, ``HOME/valkey``, ``HOME/stack.json``.
"""

from __future__ import annotations

import hmac
import os
import tempfile
from pathlib import Path

from agentflow import runtime
from agentflow.domain.error import ConfigurationError
from agentflow.embedded.child import ServerLog
from agentflow.embedded.paths import write_private
from agentflow.settings import Settings

WRITABLE_HOME = "Make it writable for this account, or choose another AGENTFLOW_HOME."


def log_directory(home: Path) -> Path:
    """``HOME/log``, made at first use; ConfigurationError when it cannot be, or when it or the home takes no file."""
    path = home / "log"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be made: {error.strerror}. Choose another AGENTFLOW_HOME.", path=str(path)
        ) from error
    for each in (home, path):
        if why := why_unwritable(each):
            raise ConfigurationError(f"{each} cannot be written: {why}. {WRITABLE_HOME}", path=str(each))
    return path


def why_unwritable(directory: Path) -> str | None:
    """Why no file can be made in ``directory``, or in what is to hold it where it is not there yet; None if one can.

    It is tried, with a file that has no name: modes alone tell nothing of a file system that is read-only or full.
    """
    while not os.path.lexists(directory) and directory != directory.parent:
        directory = directory.parent
    try:
        with tempfile.TemporaryFile(dir=directory):
            return None
    except OSError as error:
        return error.strerror


def last_lines(log: ServerLog, count: int = 12) -> str:
    """The end of what was written since the log was opened; says so when there is nothing."""
    try:
        lines = log.text().splitlines()
    except OSError as error:
        return f"(cannot be read: {error.strerror})"
    return "\n".join(lines[-count:]) or "(empty)"


def keep_audit_key(settings: Settings) -> Path:
    """The file with the stack's audit key: the one given in the settings, else one made at first use.

    ConfigurationError: the key given is not the one that this home's events are chained with.
    """
    path = settings.home.absolute() / "audit.key"
    given = settings.audit_key.get_secret_value().strip() if settings.audit_key is not None else None
    if given is not None and not path.exists():
        write_private(path, f"{given}\n")
    kept = runtime.audit_key_of(settings.model_copy(update={"home": path.parent, "audit_key": None}))
    if given is not None and not hmac.compare_digest(given.encode(), kept):
        raise ConfigurationError(
            f"AGENTFLOW_AUDIT_KEY is set and differs from {path}, which the stack of this home was installed with. "
            "Unset it: commands read the key of a running stack by themselves."
        )
    return path
