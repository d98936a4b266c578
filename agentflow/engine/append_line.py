"""Append: whole lines to a file that only grows, one writer at a time.

Owns the lock, the modes (0600 in 0700), that a line is on the disk before the next thing happens, and that what a
crash broke off is left as it is and ended. Does not know what a line says.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentflow.domain.error import ConfigurationError

_BLOCK = 64 * 1024


class GrowingFile:
    """The file while this process alone appends to it."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    def last_line(self) -> bytes | None:
        """Read the last line without its end, also one that was broken off; None for an empty file."""
        end, tail = os.fstat(self._handle).st_size, b""
        while end > 0 and b"\n" not in tail.rstrip(b"\n"):
            begin = max(0, end - _BLOCK)
            tail = os.pread(self._handle, end - begin, begin) + tail
            end = begin
        return tail.removesuffix(b"\n").rpartition(b"\n")[2] if tail else None

    def append(self, line: bytes) -> None:
        """Write one more line and wait until it is on the disk. ConfigurationError when it cannot be written."""
        size = os.fstat(self._handle).st_size
        is_torn = size > 0 and os.pread(self._handle, 1, size - 1) != b"\n"
        data = memoryview(b"\n" * is_torn + line + b"\n")
        with _named(self._path):
            while data:
                data = data[os.write(self._handle, data) :]
            os.fsync(self._handle)


@contextmanager
def growing(path: Path) -> Iterator[GrowingFile | None]:
    """Open a file to append to, making it and its folder; None while another process has it.

    ConfigurationError when it cannot be written.
    """
    with _named(path):
        is_new = not path.exists()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with _named(path):
            if is_new:
                _sync_folder(path.parent)
            is_mine = _lock(handle)
        yield GrowingFile(path, handle) if is_mine else None
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_lines(path: Path) -> list[bytes]:
    """Read every line without its end, also a last one that was broken off. ConfigurationError if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"The file of checkpoints {path} cannot be read: {error.strerror}") from error
    return content.removesuffix(b"\n").split(b"\n") if content else []


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"The file of checkpoints {path} cannot be written: {why}; set AGENTFLOW_CHECKPOINT_FILE to one that can"
        ) from error
