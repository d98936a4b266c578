"""The content store in a directory that all processes share: one folder a run, step and attempt.

Owns the layout (``runs/<run>/inputs/<name>``, ``runs/<run>/steps/<step>/<attempt>/<name>``), the modes (0700
and 0600) and the identity file by which a process proves that it sees the right store. Needs a POSIX file system; on
several hosts, a shared one.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, BinaryIO
from uuid import UUID, uuid4

from agentflow.content.store import Address
from agentflow.domain.error import ContentError, StoreMismatch

_IDENTITY = "store.id"


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
        with self._replacing(address) as file, source.open("rb") as original:
            shutil.copyfileobj(original, file, 1 << 20)

    def adopt(self, address: Address, source: Path) -> None:
        """Move ``source`` in; across file systems it is copied first."""
        path = self._path(address)
        self._make_parents(path)
        try:
            source.rename(path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise ContentError(f"The content store cannot be written: {error}") from error
            self.put_file(address, source)
            source.unlink()
            return
        path.chmod(0o600)

    def open(self, address: Address) -> BinaryIO:
        """Open content for reading."""
        return self.local_path(address).open("rb")

    def local_path(self, address: Address) -> Path:
        """Return where the content lies."""
        path = self._path(address)
        if not path.is_file():
            raise ContentError(f"The content store {self.root} holds no {address.name!r} of run {address.run_id}")
        return path

    def delete_run(self, run_id: str) -> None:
        """Remove a run's folder."""
        shutil.rmtree(self._run_folder(run_id), ignore_errors=True)

    def _run_folder(self, run_id: str) -> Path:
        return self.root / "runs" / Address(run_id, "any").run_id

    def _path(self, address: Address) -> Path:
        folder = self._run_folder(address.run_id)
        if address.step is None:
            return folder / "inputs" / address.name
        return folder / "steps" / address.step / str(address.attempt or 0) / address.name

    def _make_parents(self, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ContentError(f"The content store cannot be written: {error}") from error

    def _replacing(self, address: Address) -> _Replacement:
        path = self._path(address)
        self._make_parents(path)
        return _Replacement(path)


class _Replacement:
    """Writes beside a path and moves the result there, so that no reader sees half of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> IO[bytes]:
        try:
            handle, self._name = tempfile.mkstemp(dir=self._path.parent)
        except OSError as error:
            raise ContentError(f"The content store cannot be written: {error}") from error
        self._file = os.fdopen(handle, "wb")
        return self._file

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._file.close()
            if kind is None:
                Path(self._name).replace(self._path)
                return
        except OSError as failure:
            Path(self._name).unlink(missing_ok=True)
            raise ContentError(f"The content store cannot be written: {failure}") from failure
        Path(self._name).unlink(missing_ok=True)
