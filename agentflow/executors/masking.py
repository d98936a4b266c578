"""Masks secrets in bytes that come in pieces: every occurrence becomes ``***``, also one split over two chunks.

Owns the replacement only; which secrets exist is decided elsewhere. Standard library only: the command supervisor
loads this module without the rest of agentflow.
"""

from __future__ import annotations

import re

# Spelled out, not imported: typing costs the supervisor a tenth of its start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = b"***"


class Masker:
    """Masks one stream; the result equals masking the whole stream at once, whatever the chunks.

    At each place the longest secret wins. Bytes that may yet turn out to begin a secret are held back, so at most
    the length of the longest secret stays in memory.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(secret) for secret in self._secrets))
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece of the stream and return what is now certain."""
        if not self._secrets:
            return chunk
        buffer = self._held + chunk
        certain: list[bytes] = []
        position = 0
        open_from = self._first_open(buffer, 0)
        for match in self._matches(buffer):
            if match.start() >= open_from:
                break
            certain += (buffer[position : match.start()], MASK)
            position = match.end()
            if position > open_from:
                open_from = self._first_open(buffer, position)
        certain.append(buffer[position:open_from])
        self._held = buffer[open_from:]
        return b"".join(certain)

    def flush(self) -> bytes:
        """Return what is still held back at the end of the stream."""
        held, self._held = self._held, b""
        return self.whole(held)

    def whole(self, text: bytes) -> bytes:
        """Mask a complete text, independent of the stream."""
        return self._pattern.sub(MASK, text) if self._secrets else text

    def _matches(self, buffer: bytes) -> Iterable[re.Match[bytes]]:
        # A plain search for each secret is many times faster than the pattern, and mostly finds nothing.
        return self._pattern.finditer(buffer) if any(secret in buffer for secret in self._secrets) else ()

    def _first_open(self, buffer: bytes, start: int) -> int:
        """The first place from ``start`` on where a secret might begin that the buffer is too short to show."""
        first = len(buffer)
        for secret in self._secrets:
            at = buffer.find(secret[:1], max(start, len(buffer) - len(secret) + 1))
            while -1 < at < first:
                if secret.startswith(buffer[at:]):
                    first = at
                at = buffer.find(secret[:1], at + 1)
        return first
