"""The answer to an http step: unpacked, masked, bounded, hashed and kept in one file of mode 0600.

Owns that file and what may be said of it. What the answer means is not its concern; no byte of it leaves the file.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from agentflow.executors.masking import Masker
from agentflow.executors.supervisor_link import spellings

_OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_PIECE_BYTES = 256 * 1024
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
_UNKNOWN_TYPE = "application/octet-stream"
# The built-in table only: what a machine's own files add is not the same everywhere.
_KNOWN_TYPES = frozenset(mimetypes.MimeTypes().types_map[True].values()) | {
    "application/problem+json",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "text/event-stream",
    "text/markdown",
}


class AnswerTooLargeError(Exception):
    """The answer is larger than what is kept of one."""


class UnreadableAnswerError(Exception):
    """The answer is packed in a way that was not asked for, or broken."""


class NotKeptError(Exception):
    """The answer cannot be written down; the cause is the system's error."""


class AnswerFile:
    """Takes an answer piece by piece; raises OSError if the file is there already or cannot be made."""

    def __init__(self, path: Path, limit_bytes: int, masks: tuple[str, ...]) -> None:
        self.path = path
        self.bytes = 0
        self._room = limit_bytes
        self._masker = Masker(mask.encode("utf-8", "surrogateescape") for mask in spellings(masks))
        self._hash = hashlib.sha256()
        self._file = os.open(path, _OPEN_FLAGS, 0o600)
        self._is_open = True

    @property
    def sha256(self) -> str:
        """Of what is kept, in hex."""
        return self._hash.hexdigest()

    def take(self, piece: bytes) -> None:
        """Keep the next bytes; raises AnswerTooLargeError or NotKeptError."""
        self._room -= len(piece)
        if self._room < 0:
            raise AnswerTooLargeError
        self._write(self._masker.feed(piece))

    def finish(self) -> None:
        """Write what was held back and close the file; raises NotKeptError."""
        self._write(self._masker.flush())
        self._close()

    def discard(self) -> None:
        """Remove the file; nothing happens if it is gone."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                written = os.write(self._file, rest)
            except OSError as error:
                raise NotKeptError from error
            rest = rest[written:]
        self._hash.update(data)
        self.bytes += len(data)

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self._file)


class Unpacker:
    """Undoes a Content-Encoding in pieces of bounded size; raises UnreadableAnswerError for one it does not know."""

    def __init__(self, encoding: str) -> None:
        codings = [coding for each in encoding.lower().split(",") if (coding := each.strip()) not in ("", "identity")]
        if codings not in ([], ["gzip"], ["x-gzip"], ["deflate"]):
            raise UnreadableAnswerError
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP) if codings else None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Unpack the next bytes."""
        if self._inflate is None:
            yield chunk
            return
        while chunk:
            if self._inflate.eof:  # another member follows
                self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
            try:
                piece = self._inflate.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                raise UnreadableAnswerError from None
            yield piece
            chunk = self._inflate.unconsumed_tail or self._inflate.unused_data

    def flush(self) -> bytes:
        """Return what is left at the end; raises UnreadableAnswerError if the end is missing."""
        if self._inflate is None:
            return b""
        rest = self._inflate.flush()
        if not self._inflate.eof:
            raise UnreadableAnswerError
        return rest


def media_type_of(content_type: str) -> str:
    """The type/subtype of a Content-Type header, if it is a known one: whatever else stands there may be content."""
    written = content_type.split(";")[0].strip().lower()
    if written in _KNOWN_TYPES:
        return written
    for end, general in (("+json", "application/json"), ("+xml", "application/xml")):
        if written.endswith(end):
            return general
    return "text/plain" if written.startswith("text/") else _UNKNOWN_TYPE


def header_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """All values of a header, joined by commas; empty if there is none."""
    return ", ".join(value.decode("latin-1").strip() for key, value in headers if key.lower() == name)
