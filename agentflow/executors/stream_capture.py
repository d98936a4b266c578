"""Writes one output stream of a command to a file: masked, bounded, hashed, in constant memory.

Owns the file and its counts. Standard library only: the command supervisor loads this module without the rest of
agentflow.
"""

from __future__ import annotations

import hashlib
import os

from agentflow.executors.masking import Masker

# Spelled out, not imported: typing costs the supervisor a tenth of its start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


class StreamCapture:
    """Keeps the first ``limit_bytes`` of a masked stream in ``path`` (mode 0600, overwritten) and counts the rest.

    Raises OSError if the file cannot be opened. A write that fails later (a full disk) ends the keeping, not the
    command: ``problem`` then says why.
    """

    def __init__(self, path: str, limit_bytes: int, secrets: Iterable[bytes]) -> None:
        self._path = path
        self._room = limit_bytes
        self._masker = Masker(secrets)
        self._hash = hashlib.sha256()
        self._seen = 0
        self._kept = 0
        self._is_cut = False
        self.problem: str | None = None
        self._file = os.open(path, _OPEN_FLAGS, 0o600)
        os.fchmod(self._file, 0o600)

    def take(self, chunk: bytes) -> None:
        """Take the next bytes that the command wrote."""
        self._seen += len(chunk)
        if not self._is_cut:
            self._keep(self._masker.feed(chunk))

    def close(self) -> dict[str, object]:
        """End the stream; return what is known of it, in the fields of a StreamRecord."""
        if not self._is_cut:
            self._keep(self._masker.flush())
        os.close(self._file)
        return {
            "path": self._path,
            "bytes_seen": self._seen,
            "bytes_kept": self._kept,
            "sha256": self._hash.hexdigest(),
            "is_cut": self._is_cut,
        }

    def _keep(self, data: bytes) -> None:
        self._is_cut = len(data) > self._room
        rest = memoryview(data)[: self._room]
        while rest:
            try:
                written = os.write(self._file, rest)
            except OSError as error:
                self._is_cut = True
                self.problem = f"{self._path} could not be written further: {error.strerror}"
                return
            self._hash.update(rest[:written])
            self._kept += written
            self._room -= written
            rest = rest[written:]
