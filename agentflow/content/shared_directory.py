"""The content store in a directory that all processes share: one folder a run, step and attempt.

Owns the layout (``runs/<run>/inputs/<name>``, ``runs/<run>/steps/<step>/<attempt>/<name>``), the modes (0700
and 0600) and the identity file by which a process proves that it sees the right store. What is being written lies
beside its place under a name that follows from it, so that deleting the one finds the other; so does what
grows. Whatever the file system refuses is a ContentError. Needs a POSIX file system; on several hosts, a shared one.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO
from uuid import UUID, uuid4

from agentflow.content.store import Address
from agentflow.domain.error import ContentError, StoreMismatch

_IDENTITY = "store.id"
_READ_BYTES = 64 * 1024
_UNFINISHED = ".part"
_GROW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system says that makes no link there, or no more of them."""


@contextmanager
def _named(name: str, trouble: str) -> Iterator[None]:
    """Turn an OSError into a ContentError that names the content and no path: its text comes into rows."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ContentError(f"{name!r} {trouble} the content store: {why}") from error


class SharedDirectory:
    """A content store under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def store_id(self) -> UUID:
        """Read the identity of the store, making it at first use; two first users agree on one."""
        path = self.root / _IDENTITY
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                self._write_identity(path)
            return UUID(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error

    def find_id(self) -> UUID | None:
        """Read the identity of the store, if it is one."""
        try:
            return UUID((self.root / _IDENTITY).read_text(encoding="ascii").strip())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreMismatch:
        return StoreMismatch(
            f"The content store {self.root} cannot be used: {error}. Set AGENTFLOW_CONTENT_DIR to the shared "
            "directory that every worker and every client of this installation sees."
        )

    def _write_identity(self, path: Path) -> None:
        handle, name = tempfile.mkstemp(dir=self.root)
        with os.fdopen(handle, "w") as file:
            file.write(f"{uuid4()}\n")
        try:
            os.link(name, path)
        except FileExistsError:  # another first user was quicker
            return
        finally:
            Path(name).unlink()

    def put(self, address: Address, content: bytes) -> None:
        """Keep ``content``."""
        with self._replacing(address) as file:
            file.write(content)

    def put_file(self, address: Address, source: Path) -> None:
        """Keep a copy of ``source``."""
        with self._replacing(address) as file, _open_regular(address, source) as original:
            shutil.copyfileobj(original, file, 1 << 20)

    def adopt(self, address: Address, source: Path) -> None:
        """Move ``source`` in; across file systems it is copied first. A link is not followed but refused."""
        path = self._path(address)
        with _named(address.name, "cannot be kept in"):
            if not stat.S_ISREG(source.lstat().st_mode):
                raise ContentError(f"{address.name!r} is not a regular file and cannot be kept in the content store")
            self._make_parents(path)
            if not _moved(source, path):
                self.put_file(address, source)
                source.unlink()
                return
            path.chmod(0o600)

    def copy(self, source: Address, target: Address) -> bool:
        """Link ``source`` at ``target``; copy it where the file system makes no such link."""
        original, path = self._path(source), self._path(target)
        with _named(target.name, "cannot be kept in"):
            if not original.is_file():
                return False
            self._make_parents(path)
            try:
                is_linked = _linked(original, path)
            except FileNotFoundError:  # it was forgotten meanwhile
                return False
        if not is_linked:
            self.put_file(target, original)
        return True

    def open(self, address: Address) -> BinaryIO:
        """Open content for reading."""
        with _named(address.name, "cannot be read from"):
            return io.BufferedReader(_Reading(self.local_path(address), address.name), _READ_BYTES)

    def grow(self, address: Address, at: int, content: bytes) -> None:
        """Write to the growing file, which is opened and closed each time: on a shared disk others see it then."""
        path = _growing(self._path(address))
        with _named(address.name, "cannot be kept in"):
            self._make_parents(path)
            handle = os.open(path, _GROW_FLAGS, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.seek(at)
                file.write(content)

    def forget_growing(self, address: Address) -> None:
        """Remove the growing file."""
        with _named(address.name, "cannot be removed from"):
            _growing(self._path(address)).unlink(missing_ok=True)

    def read_part(self, address: Address, at: int, size: int) -> bytes:
        """Read a part of the file, else of the growing one."""
        path = self._path(address)
        with _named(address.name, "cannot be read from"):
            for each in (path, _growing(path)):
                try:
                    with each.open("rb") as file:
                        file.seek(at)
                        return file.read(size)
                except FileNotFoundError:
                    continue
        self._check_presence()
        return b""

    def local_path(self, address: Address) -> Path:
        """Return where the content lies."""
        path = self._path(address)
        with _named(address.name, "cannot be read from"):
            try:
                is_there = stat.S_ISREG(path.stat().st_mode)
            except (FileNotFoundError, NotADirectoryError):
                is_there = False
        if not is_there:
            self._check_presence()
            raise ContentError(f"The content store holds no {address.name!r} of run {address.run_id}")
        return path

    def find_attempts(self, run_id: str, step: str) -> frozenset[int]:
        """List the folders of a step's attempts."""
        folder = self._path(Address(run_id, "any", step)).parent.parent
        with _named(step, "cannot be looked for in"):
            try:
                return frozenset(int(each.name) for each in folder.iterdir() if each.name.isdecimal())
            except FileNotFoundError:
                return frozenset()

    def delete(self, address: Address) -> None:
        """Remove the file, and what processes that died had written of it."""
        path = self._path(address)
        with _named(address.name, "cannot be removed from"):
            for unfinished in _find_unfinished(path):
                unfinished.unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def delete_run(self, run_id: str) -> None:
        """Remove a run's folder; what resists keeps nothing else from going."""
        folder = self._run_folder(run_id)
        shutil.rmtree(folder, ignore_errors=True)
        with _named(run_id, "cannot be removed from"):
            if folder.exists():
                shutil.rmtree(folder)
            self._check_presence()  # where a store is not mounted, every folder seems to be gone

    def _make_parents(self, path: Path) -> None:
        """Make the folders above ``path``, but none in a directory that is no store, such as where one was mounted."""
        if not path.parent.exists():
            self._check_presence()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _check_presence(self) -> None:
        if not (self.root / _IDENTITY).exists():
            raise ContentError("There is no content store where this process looks for it: is it mounted?")

    def _run_folder(self, run_id: str) -> Path:
        return self.root / "runs" / Address(run_id, "any").run_id

    def _path(self, address: Address) -> Path:
        folder = self._run_folder(address.run_id)
        if address.step is None:
            return folder / "inputs" / address.name
        return folder / "steps" / address.step / str(address.attempt or 0) / address.name

    @contextmanager
    def _replacing(self, address: Address) -> Iterator[IO[bytes]]:
        """Write beside the address and move the result there, so that no reader sees half of it."""
        path = self._path(address)
        with _named(address.name, "cannot be kept in"):
            self._make_parents(path)
            handle, name = tempfile.mkstemp(_UNFINISHED, _prefix(path), path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    yield file
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise


class _Reading(io.FileIO):
    """An open file of the store; what goes wrong while it is read (a shared disk that is gone) is a ContentError."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, "rb")
        self._content_name = name

    def readinto(self, buffer: Any) -> int:
        with _named(self._content_name, "cannot be read from"):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with _named(self._content_name, "cannot be read from"):
            return super().readall()


def _prefix(path: Path) -> str:
    """How the names begin under which ``path`` is written; of one length, since that of a name has a limit."""
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}."


def _growing(path: Path) -> Path:
    """Where lies what is still being written: one of the unfinished, so that whoever deletes the one finds it."""
    return path.parent / f"{_prefix(path)}growing{_UNFINISHED}"


def _find_unfinished(path: Path) -> list[Path]:
    prefix = _prefix(path)
    try:
        beside = list(path.parent.iterdir())
    except FileNotFoundError:
        return []
    return [each for each in beside if each.name.startswith(prefix) and each.name.endswith(_UNFINISHED)]


def _moved(source: Path, path: Path) -> bool:
    """Move a file; False if the two places are on different file systems."""
    try:
        source.rename(path)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    return True


def _linked(original: Path, path: Path) -> bool:
    """Link a file where another may be already; False if the file system makes no such link."""
    beside = path.parent / f"{_prefix(path)}{uuid4().hex}{_UNFINISHED}"
    try:
        beside.hardlink_to(original)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    try:
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)  # it stays where both names were links of one file already
    return True


def _open_regular(address: Address, source: Path) -> BinaryIO:
    handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO is not waited for
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ContentError(f"{address.name!r} is not a regular file and cannot be kept in the content store")
    return os.fdopen(handle, "rb")
