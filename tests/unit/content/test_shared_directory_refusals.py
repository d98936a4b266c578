"""Whatever the file system refuses is a ContentError that names the content and no path of the machine."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.content import Address, SharedDirectory
from agentflow.domain.error import ContentError

NAMED = Address("run", "artifacts/report.md", "step", 1)


@pytest.fixture
def store(tmp_path: Path) -> SharedDirectory:
    made = SharedDirectory(tmp_path / "store")
    made.store_id()
    return made


def test_a_directory_that_is_no_store_is_not_made_one(tmp_path: Path) -> None:
    """Such as the empty one where a store was mounted."""
    gone = SharedDirectory(tmp_path)
    (tmp_path / "source").write_bytes(b"far")

    for act in (
        lambda: gone.put(NAMED, b"x"),
        lambda: gone.adopt(NAMED, tmp_path / "source"),
        lambda: gone.open(NAMED),
    ):
        with pytest.raises(ContentError, match="no content store where this process looks for it"):
            act()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def _refusal(act: Callable[[], object], tmp_path: Path) -> str:
    with pytest.raises(ContentError) as caught:
        act()
    assert str(tmp_path) not in str(caught.value)
    assert "artifacts/report.md" in str(caught.value)
    return str(caught.value)


def _broken(number: int) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number), "/where/it/lies")

    return fail


def test_content_is_kept_replaced_and_read_again(store: SharedDirectory, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"adopted")
    store.put(NAMED, b"put")
    store.adopt(NAMED, source)

    with store.open(NAMED) as file:
        assert (file.read(3), file.read()) == (b"ado", b"pted")
    assert not source.exists()
    assert store.local_path(NAMED).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/hostname")])
def test_only_a_regular_file_is_adopted(store: SharedDirectory, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "source")

    assert "not a regular file" in _refusal(lambda: store.adopt(NAMED, tmp_path / "source"), tmp_path)


def test_a_fifo_is_not_copied_nor_waited_for(store: SharedDirectory, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "source")

    assert "not a regular file" in _refusal(lambda: store.put_file(NAMED, tmp_path / "source"), tmp_path)


def test_a_file_and_a_folder_of_one_name_refuse_each_other(store: SharedDirectory, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    store.put(Address("run", "artifacts/report.md/inner", "step", 1), b"x")

    for act in (lambda: store.adopt(NAMED, tmp_path / "source"), lambda: store.put(NAMED, b"x")):
        assert "Is a directory" in _refusal(act, tmp_path)
    assert [path.name for path in store.root.rglob("*.part")] == []


def test_what_is_not_there_is_said_without_the_place(store: SharedDirectory, tmp_path: Path) -> None:
    for act in (lambda: store.open(NAMED), lambda: store.local_path(NAMED)):
        assert "holds no" in _refusal(act, tmp_path)
    _refusal(lambda: store.adopt(NAMED, tmp_path / "gone"), tmp_path)
    _refusal(lambda: store.put_file(NAMED, tmp_path / "gone"), tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_fails_is_a_content_error(
    store: SharedDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store.put(NAMED, b"x" * 10)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", _broken(number))
        assert os.strerror(number) in _refusal(lambda: store.local_path(NAMED), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _broken(number))
        assert os.strerror(number) in _refusal(lambda: store.put(NAMED, b"y"), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", _broken(number))
        (tmp_path / "source").write_bytes(b"x")
        assert os.strerror(number) in _refusal(lambda: store.adopt(NAMED, tmp_path / "source"), tmp_path)
    with store.open(NAMED) as file:
        assert file.read() == b"x" * 10


@pytest.mark.parametrize("size", [-1, 5, 1_000_000])
def test_a_disk_that_goes_while_it_is_read_is_a_content_error(
    store: SharedDirectory, tmp_path: Path, size: int
) -> None:
    store.put(NAMED, b"x" * 10)
    with store.open(NAMED) as file:
        handle = os.open(tmp_path, os.O_RDONLY)
        os.dup2(handle, file.fileno())  # reading a directory fails: EISDIR
        os.close(handle)

        assert "Is a directory" in _refusal(lambda: file.read(size), tmp_path)


def test_across_file_systems_content_is_copied(
    store: SharedDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"far")
    monkeypatch.setattr(Path, "rename", _broken(errno.EXDEV))

    store.adopt(NAMED, tmp_path / "source")

    with store.open(NAMED) as file:
        assert isinstance(file, io.BufferedReader)
        assert file.read() == b"far"
    assert not (tmp_path / "source").exists()


DIES = """
import os, pathlib, signal, sys
from agentflow.content import Address, SharedDirectory
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
SharedDirectory(pathlib.Path(sys.argv[1])).put(Address("run", sys.argv[2], "step", 1), b"half")
"""


@pytest.mark.parametrize("name", ["text", "artifacts/report.md", "n" * 255])
def test_what_a_killed_process_had_written_goes_with_its_address(store: SharedDirectory, name: str) -> None:
    command = [sys.executable, "-c", DIES, str(store.root)]
    for each in (name, "other"):
        assert subprocess.run([*command, each], check=False).returncode == -signal.SIGKILL
    assert len([path for path in (store.root / "runs").rglob("*") if path.is_file()]) == 2

    store.delete(Address("run", name, "step", 1))
    [left] = [path for path in (store.root / "runs").rglob("*") if path.is_file()]
    assert left.read_bytes() == b"half"
    store.delete(Address("run", "other", "step", 1))
    assert not left.exists()


def test_the_attempts_of_a_step_are_found_and_none_where_nothing_is(store: SharedDirectory) -> None:
    for attempt in (2, 11):
        store.put(Address("run", "text", "step", attempt), b"x")

    assert store.find_attempts("run", "step") == {2, 11}
    assert store.find_attempts("run", "other") == store.find_attempts("gone", "step") == frozenset()
