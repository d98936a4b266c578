"""Finds the files that a command registered as artifacts, after its end.

Owns both ways of registering (a file under $AGENTFLOW_ARTIFACTS; a stdout line ``ARTIFACT: path`` or
``ARTIFACTS: a,b``) and what is refused: anything but regular files inside the attempt's own directories. Storing them
is not its work.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from agentflow.executors.base import FoundArtifact

_LINE_BYTES = 16 * 1024
_CHUNK_BYTES = 1024 * 1024
_WARNING_LIMIT = 20
_ANNOUNCEMENT = re.compile(r"(ARTIFACTS?):(.*)", re.DOTALL)


class _RefusedError(Exception):
    """The path cannot become an artifact; the text says why."""


class ArtifactSearch:
    """Collects artifacts of one attempt, at most ``limit`` of them; ``is_stopped`` ends the search early.

    ``found`` holds them by name; ``warnings`` says what was refused, in at most twenty lines. Where one name is
    registered twice, the file under the artifacts directory wins.
    """

    def __init__(self, work: Path, artifacts: Path, limit: int, is_stopped: Callable[[], bool]) -> None:
        self._work = work.resolve()
        self._artifacts = artifacts.resolve()
        self._limit = limit
        self._is_stopped = is_stopped
        self._refusals = 0
        self._is_over_limit = False
        self.found: dict[str, FoundArtifact] = {}
        self.warnings: list[str] = []

    def search_directory(self) -> None:
        """Take every file under the artifacts directory; its name is its path there."""
        for folder, folders, files in os.walk(self._artifacts):
            folders.sort()
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in sorted([*files, *links]):
                path = Path(folder, name)
                self._register(path.relative_to(self._artifacts).as_posix(), path)

    def search_announcements(self, stdout: Path, cwd: Path) -> None:
        """Take every file announced on stdout, relative to ``cwd``; its name is its path there, or in the work
        directory if it lies elsewhere in it."""
        for written in announced_paths(stdout):
            path = Path(os.path.normpath(cwd / written))
            base = next((base for base in (cwd, self._work, self._artifacts) if path.is_relative_to(base)), None)
            if base is None:
                self._warn(f"{written}: leads out of the work directory")
            else:
                self._register(path.relative_to(base).as_posix(), path)

    def _register(self, name: str, path: Path) -> None:
        if self._is_stopped() or self._is_over_limit or name in self.found:
            return
        if len(self.found) >= self._limit:
            self._is_over_limit = True
            self._warn(
                f"{name}: an attempt may register {self._limit} artifacts; this one and all further are left out"
            )
            return
        try:
            self.found[name] = self._examine(name, path)
        except _RefusedError as refused:
            self._warn(f"{_shown(name)}: {refused}")
        except OSError as error:
            self._warn(f"{name}: {error.strerror or 'cannot be read'}")

    def _examine(self, name: str, path: Path) -> FoundArtifact:
        _check_name(name)
        try:
            target = path.resolve(strict=True)
        except FileNotFoundError as error:
            raise _RefusedError("leads nowhere" if path.is_symlink() else "does not exist") from error
        except RuntimeError as error:
            raise _RefusedError("is a link to itself") from error
        if not (target.is_relative_to(self._work) or target.is_relative_to(self._artifacts)):
            raise _RefusedError("leads out of the work directory")
        # Non-blocking: opening a FIFO would wait for a writer for ever.
        file = os.open(target, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise _RefusedError("is not a regular file")
            size, sha256 = self._digest(file)
        finally:
            os.close(file)
        return FoundArtifact(name=name, path=target, bytes=size, sha256=sha256)

    def _digest(self, file: int) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        while chunk := os.read(file, _CHUNK_BYTES):
            if self._is_stopped():
                raise _RefusedError("the attempt was stopped while it was read")
            digest.update(chunk)
            size += len(chunk)
        return size, digest.hexdigest()

    def _warn(self, text: str) -> None:
        self._refusals += 1
        if self._refusals < _WARNING_LIMIT:
            self.warnings.append(text)
        elif self._refusals == _WARNING_LIMIT:
            self.warnings.append("more files were refused, not listed here")


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _check_name(name: str) -> None:
    """Refuse a name that a row or another machine cannot have, or that a stream of the attempt has."""
    if name in ("stdout", "stderr"):
        raise _RefusedError("is the name of the attempt's own stream; choose another")
    if not name.isprintable() or "\\" in name:
        raise _RefusedError("has a name that is no plain text without backslashes")


def announced_paths(stdout: Path) -> Iterator[str]:
    """The paths in ``ARTIFACT: path`` and ``ARTIFACTS: a,b`` lines of a file, trimmed, in order.

    The file is read line by line; of a line longer than 16 KiB only the beginning counts.
    """
    with stdout.open("rb") as file:
        is_line_start = True
        while line := file.readline(_LINE_BYTES):
            if is_line_start and line.lstrip().startswith(b"ARTIFACT"):
                yield from _paths_in(line.decode("utf-8", "surrogateescape").strip())
            is_line_start = line.endswith(b"\n")


def _paths_in(line: str) -> Iterator[str]:
    match = _ANNOUNCEMENT.fullmatch(line)
    if match is None:
        return
    written = match[2].split(",") if match[1] == "ARTIFACTS" else [match[2]]
    yield from (path.strip() for path in written if path.strip())
