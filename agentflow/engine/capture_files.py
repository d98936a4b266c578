"""Capture the files that a plan names beside itself: which they are, their hashes, sizes and executable bits.

Owns the globs of ``files`` and their bounds: nothing outside the plan's folder, by no way. Copies nothing: the content
store does, from the paths handed back, and it checks the hashes again.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from agentflow.domain.document import Path as DocumentPath
from agentflow.domain.fault import Fault
from agentflow.domain.plan import PlanFile
from agentflow.domain.wording import shorten

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_ALL_BYTES = 1024 * 1024 * 1024
MAX_FILES = 10_000
_MAGIC = re.compile(r"[*?[]")


class RefusedError(Exception):
    """A file or pattern cannot be captured; the message says why."""


@dataclass
class Capture:
    """The captured files by relative POSIX path, where they lie, and the faults of the patterns."""

    files: dict[str, PlanFile] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def plan_files(self) -> tuple[PlanFile, ...]:
        """Return the files as a plan holds them, sorted by path."""
        return tuple(self.files[path] for path in sorted(self.files))


def capture_files(
    folder: Path,
    patterns: Sequence[tuple[str, DocumentPath]],
    *,
    document: Path | None = None,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Capture:
    """Capture what ``patterns`` match in ``folder``; each pattern comes with its place in the document.

    Patterns are those of a shell, with ``**`` for folders at any depth; hidden files must be named by a leading dot,
    and the plan's own ``document`` only counts when it is written out.
    """
    capture = Capture()
    root = folder.resolve()
    for pattern, place in patterns:
        try:
            for relative in _matches(root, pattern, document):
                if relative not in capture.files:
                    _add(capture, root, relative, max_file_bytes)
        except RefusedError as error:
            capture.faults.append(Fault("bad_file", f"files: {error}", place))
    return capture


def _matches(root: Path, pattern: str, document: Path | None) -> list[str]:
    """Return the relative paths that ``pattern`` names. Raises RefusedError when there are none."""
    parts = PurePosixPath(pattern)
    if parts.is_absolute() or ".." in parts.parts:
        raise RefusedError(f"{shorten(pattern)!r} leads out of the plan's folder: copy the files beside the plan")
    if (root / pattern).is_file() or not _MAGIC.search(pattern):
        return [str(parts)]
    found = sorted(itertools.islice(_glob(root, pattern), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        raise RefusedError(f"{shorten(pattern)!r} matches more than {MAX_FILES} files: name fewer")
    own = document.resolve() if document is not None else None
    found = [relative for relative in found if (root / relative).resolve() != own]
    if not found:
        raise RefusedError(f"{shorten(pattern)!r} matches no file beside the plan")
    return found


def _glob(root: Path, pattern: str) -> Iterator[str]:
    """Yield what is no folder; folders reached through symbolic links are left out, they could be endless."""
    for relative in glob.iglob(pattern, root_dir=root, recursive=True):  # noqa: PTH207  Path.glob takes hidden files
        path = root / relative
        if not path.is_dir() and not any((root / parent).is_symlink() for parent in PurePosixPath(relative).parents):
            yield str(PurePosixPath(relative))


def _add(capture: Capture, root: Path, relative: str, max_file_bytes: int) -> None:
    name = shorten(relative)
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise RefusedError(f"a file name is not UTF-8: {relative.encode(errors='backslashreplace').decode()}") from None
    if len(capture.files) >= MAX_FILES:
        raise RefusedError(f"the plan names more than {MAX_FILES} files")
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise RefusedError(f"{name!r} is a link that leads out of the plan's folder: copy the file instead")
    try:
        file = _measure(path, relative, max_file_bytes)
    except FileNotFoundError:
        raise RefusedError(f"there is no {name!r} beside the plan") from None
    except OSError as error:
        raise RefusedError(f"{name!r} cannot be read: {error.strerror or type(error).__name__}") from error
    if sum(one.bytes for one in capture.files.values()) + file.bytes > MAX_ALL_BYTES:
        raise RefusedError(f"the files come to more than {MAX_ALL_BYTES} bytes together at {name!r}")
    capture.files[relative] = file
    capture.paths[relative] = path


def _measure(path: Path, relative: str, max_file_bytes: int) -> PlanFile:
    """Hash one file. Raises RefusedError and OSError."""
    name = shorten(relative)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise RefusedError(f"{name!r} is a folder: write {relative.rstrip('/')}/** for all that is in it")
    if not stat.S_ISREG(mode):
        raise RefusedError(f"{name!r} is no ordinary file")
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(1024 * 1024):
            size += len(block)
            if size > max_file_bytes:
                raise RefusedError(f"{name!r} is larger than {max_file_bytes} bytes")
            digest.update(block)
    return PlanFile(path=relative, sha256=digest.hexdigest(), bytes=size, executable=bool(mode & stat.S_IXUSR))
