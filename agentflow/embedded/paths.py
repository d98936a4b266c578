"""The account that the servers run as, and the directories and files of a home.

Owns: who may enter, own and read what below a home. PostgreSQL refuses uid 0, so root lends the servers the account
`nobody`; everybody else runs them as themselves. Parents of a home are never changed, only checked.
"""

from __future__ import annotations

import os
import pwd
import secrets
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentflow.domain.error import ConfigurationError

_ACCOUNTS = ("nobody", "daemon")  # PostgreSQL wants a passwd entry; the first one that there is
_ENTER, _READ = 0o1, 0o4


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged account that root starts the servers as; it is given no further groups."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The account to change to, or None when the servers run as the caller. ConfigurationError: root finds none."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and this system has no account {' or '.join(_ACCOUNTS)} to run it as. "
        "Start agentflow as an ordinary user."
    )


def can_read(path: Path, account: Account) -> bool:
    """Whether the account may enter every directory above ``path`` and read it, by owner, group and mode."""
    path = path.resolve()
    return _is_allowed(path, account, _READ) and all(_is_allowed(parent, account, _ENTER) for parent in path.parents)


def prepare_home(home: Path, account: Account | None) -> None:
    """Make the home, enterable by the account. ConfigurationError: a directory above it is closed to the account."""
    make_passage(home, account)
    if account is None:
        return
    for parent in home.resolve().parents:
        if not _is_allowed(parent, account, _ENTER):
            raise ConfigurationError(
                f"Started by root, the servers run as {account.name}, and {account.name} may not enter {parent}. "
                "Set AGENTFLOW_HOME to a directory outside of it; root's default is /var/lib/agentflow.",
                home=str(home),
            )


def make_passage(path: Path, account: Account | None) -> None:
    """Make a directory of ours, 0700; the account may pass through it (0710 for its group) but not list it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None and not _is_allowed(path, account, _ENTER):
        os.chown(path, -1, account.gid)
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o010)


def make_data_directory(path: Path, account: Account | None) -> None:
    """Make a directory, 0700, that belongs to the servers. ConfigurationError: it belongs to somebody else."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        check_owner(path, account)
    else:
        give(path, account)


def check_owner(path: Path, account: Account | None) -> None:
    """ConfigurationError when ``path`` does not belong to the account that the servers run as."""
    owner, expected = path.stat().st_uid, os.geteuid() if account is None else account.uid
    if owner != expected:
        raise ConfigurationError(
            f"{path} belongs to uid {owner}, but the servers run as uid {expected}. "
            "Start agentflow as the account that made this home, or choose another AGENTFLOW_HOME.",
            path=str(path),
        )


def give(path: Path, account: Account | None) -> None:
    """Make the account the owner of ``path``."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Write a 0600 file, atomically and to the disk; it belongs to the account when one is given."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        give(temporary, account)
        temporary.replace(path)
    except BaseException:  # whatever happened, an interrupt too: leave no copy of a secret behind
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash of the machine."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def kept_password(path: Path) -> tuple[str, bool]:
    """The password kept in ``path``, made at the first call; and whether this call made it."""
    try:
        if password := path.read_text(encoding="utf-8").strip():
            return password, False
    except FileNotFoundError:
        pass
    password = secrets.token_urlsafe(32)
    write_private(path, password)
    return password, True


def _is_allowed(path: Path, account: Account, bit: int) -> bool:
    entry = path.stat()
    if entry.st_uid == account.uid:
        return bool(entry.st_mode & bit << 6)
    if entry.st_gid == account.gid:
        return bool(entry.st_mode & bit << 3)
    return bool(entry.st_mode & bit)
