"""Finds the files that a command registered as artifacts, after its end.

Owns both ways of registering (a file under $AGENTFLOW_ARTIFACTS; a stdout line ``ARTIFACT: path`` or
``ARTIFACTS: a,b``) and what is refused: anything but regular files inside the attempt's own directories. Storing them
is not its work.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from agentflow.executors.base import FoundArtifact, Refusal
from agentflow.executors.regular_file import NotRegularError, open_regular

_LINE_BYTES = 16 * 1024
_CHUNK_BYTES = 1024 * 1024
_ANNOUNCEMENT = re.compile(r"(ARTIFACTS?):(.*)", re.DOTALL)


class _RefusedError(Exception):
    """The path cannot become an artifact."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class ArtifactSearch:
    """Collects artifacts of one attempt, at most ``limit`` of them; ``is_stopped`` ends the search early.

    ``found`` holds them by name; ``refusals`` counts what was refused and why. Where one name is registered twice,
    the file under the artifacts directory wins; a file with the name of a folder of artifacts is refused.
    """

    def __init__(self, work: Path, artifacts: Path, limit: int, is_stopped: Callable[[], bool]) -> None:
        self._work = work.resolve()
        self._artifacts = artifacts.resolve()
        self._limit = limit
        self._is_stopped = is_stopped
        self._folders: set[str] = set()
        self.found: dict[str, FoundArtifact] = {}
        self.refusals: Counter[Refusal] = Counter()

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
        try:
            for written in announced_paths(stdout):
                self._register_announced(written, cwd)
        except OSError:
            self.refusals[Refusal.STDOUT_REPLACED] += 1

    def _register_announced(self, written: str, cwd: Path) -> None:
        path = Path(os.path.normpath(cwd / written))
        base = next((base for base in (cwd, self._work, self._artifacts) if path.is_relative_to(base)), None)
        if base is None:
            self.refusals[Refusal.OUTSIDE] += 1
        else:
            self._register(path.relative_to(base).as_posix(), path)

    def _register(self, name: str, path: Path) -> None:
        if self._is_stopped() or name in self.found:
            return
        try:
            self._check_place(name)
            self.found[name] = self._examine(name, path)
            self._folders.update(_folders_of(name))
        except _RefusedError as refused:
            self.refusals[refused.refusal] += 1
        except OSError:
            self.refusals[Refusal.UNREADABLE] += 1

    def _check_place(self, name: str) -> None:
        if len(self.found) >= self._limit:
            raise _RefusedError(Refusal.TOO_MANY)
        if name in self._folders or any(folder in self.found for folder in _folders_of(name)):
            raise _RefusedError(Refusal.NAME_IS_FOLDER)

    def _examine(self, name: str, path: Path) -> FoundArtifact:
        _check_name(name)
        try:
            target = path.resolve(strict=True)
        except FileNotFoundError as error:
            raise _RefusedError(Refusal.MISSING) from error
        except RuntimeError as error:
            raise _RefusedError(Refusal.LOOP) from error
        if not (target.is_relative_to(self._work) or target.is_relative_to(self._artifacts)):
            raise _RefusedError(Refusal.OUTSIDE)
        try:
            with open_regular(target) as file:
                size, sha256 = self._digest(file)
        except NotRegularError as error:
            raise _RefusedError(Refusal.NOT_REGULAR) from error
        return FoundArtifact(name=name, path=target, bytes=size, sha256=sha256)

    def _digest(self, file: BinaryIO) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        while chunk := file.read(_CHUNK_BYTES):
            if self._is_stopped():
                raise _RefusedError(Refusal.STOPPED)
            digest.update(chunk)
            size += len(chunk)
        return size, digest.hexdigest()


def _folders_of(name: str) -> list[str]:
    return [str(folder) for folder in PurePosixPath(name).parents][:-1]


def _check_name(name: str) -> None:
    """Refuse a name that a row or another machine cannot have, or that a stream of the attempt has."""
    if name in ("stdout", "stderr"):
        raise _RefusedError(Refusal.STREAM_NAME)
    if not name.isprintable() or "\\" in name:
        raise _RefusedError(Refusal.UNUSABLE_NAME)


def announced_paths(stdout: Path) -> Iterator[str]:
    """The paths in ``ARTIFACT: path`` and ``ARTIFACTS: a,b`` lines of a file, trimmed, in order.

    The file is read line by line; of a line longer than 16 KiB only the beginning counts. Raises OSError, also if
    the command put something else in its place.
    """
    with open_regular(stdout) as file:
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
