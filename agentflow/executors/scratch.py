"""The attempt's own directory on the worker's disk: made, removed, and swept up after workers that were killed.

Owns its name and its lock. The lock on the directory says that its owner lives: the kernel lets go of it whatever ends
the process, and it holds for processes of other containers too. A fork that runs on keeps it, to be safe.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "agentflow-scratch-"
_OPEN_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o700


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A new directory (mode 0700) under TMPDIR that goes when the block ends; raises OSError if none can be made."""
    path, lock = _make()
    try:
        yield path
    finally:
        _remove(path)
        os.close(lock)


def sweep_scratch() -> int:
    """Remove the directories of this account whose owner is dead and return how many; what resists is left."""
    return sum(_sweep(path) for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))


def _make() -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(FileNotFoundError):  # a sweep of another process came between its making and its lock
            lock = os.open(path, _OPEN_FLAGS)
            if _is_locked(lock) and path.exists():
                return path, lock
            os.close(lock)


def _is_locked(directory: int) -> bool:
    """Lock a directory; False if another process holds it."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: no sweep there can take it either
        return True
    return True


def _sweep(path: Path) -> bool:
    try:
        directory = os.open(path, _OPEN_FLAGS)
    except OSError:  # gone meanwhile, another account's, or no directory
        return False
    try:
        if os.fstat(directory).st_uid != os.geteuid():
            return False
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    except OSError:  # its owner lives
        return False
    finally:
        os.close(directory)
    return not path.exists()


def _remove(path: Path) -> None:
    """Remove a directory with all that is in it, also folders that a command has closed to itself."""
    with suppress(OSError):
        path.chmod(_MODE)
    for folder, folders, _ in os.walk(path):
        for name in folders:
            inner = Path(folder, name)
            if not inner.is_symlink():
                with suppress(OSError):
                    inner.chmod(_MODE)
    shutil.rmtree(path, ignore_errors=True)
