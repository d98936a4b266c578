"""What a content store is.

Owns the Protocol and the address of a piece of content: run, step, attempt, name. Does not know what the content is,
nor which rows speak of it. The shared directory is the store that agentflow ships.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID

from agentflow.domain.error import ContentError


@dataclass(frozen=True, slots=True)
class Address:
    """Names content: what was handed in with a run (no step), or what an attempt of a step produced.

    ``name`` may hold slashes; it is relative and never leads outside.
    """

    run_id: str
    name: str
    step: str | None = None
    attempt: int | None = None

    def __post_init__(self) -> None:
        parts = [self.run_id, *([self.step] if self.step is not None else []), *self.name.split("/")]
        if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
            raise ContentError(f"{self.name!r} cannot name content: it must be a relative path without '..'")


class ContentStore(Protocol):
    """Keeps content by address. Every process of an installation sees the same store, or takes no work."""

    def store_id(self) -> UUID:
        """The store's identity, made at first use; StoreMismatch when the store cannot be reached."""

    def find_id(self) -> UUID | None:
        """The store's identity; None when there is no store yet. Makes nothing."""

    def put(self, address: Address, content: bytes) -> None:
        """Keep ``content``, readable by the owner only; what is there already is replaced in one move."""

    def put_file(self, address: Address, source: Path) -> None:
        """Keep a copy of the file ``source``."""

    def adopt(self, address: Address, source: Path) -> None:
        """Keep the local file ``source`` and take it away from where it was."""

    def copy(self, source: Address, target: Address) -> bool:
        """Keep at ``target`` too what is at ``source``; False when nothing is there. Forgetting one leaves the other.

        A store may let both share one file: content is never changed in its place, only replaced.
        """

    def open(self, address: Address) -> BinaryIO:
        """Open content for reading; ContentError when there is none."""

    def grow(self, address: Address, at: int, content: bytes) -> None:
        """Keep ``content`` at place ``at`` of what is still being written there, beside what is kept at its end."""

    def forget_growing(self, address: Address) -> None:
        """Forget what was kept while it was written; what is kept of its end stays."""

    def read_part(self, address: Address, at: int, size: int) -> bytes:
        """Read up to ``size`` bytes from place ``at`` on, of what is kept or, until it is, of what is being written.

        Nothing where there is nothing (yet). ContentError when the store is away.
        """

    def local_path(self, address: Address) -> Path:
        """A local path that holds the content, for a command to read; ContentError when there is none."""

    def find_attempts(self, run_id: str, step: str) -> frozenset[int]:
        """The attempts of a step that the store may hold something of; ContentError when it cannot be read."""

    def delete(self, address: Address) -> None:
        """Forget content, also what a killed process had written of it; what is not there is forgotten already.

        ContentError when it cannot be removed.
        """

    def delete_run(self, run_id: str) -> None:
        """Forget everything of a run; ContentError when something of it cannot be removed, or the store is away."""
