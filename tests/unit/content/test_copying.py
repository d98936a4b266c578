"""Copies of content in the store: linked where that can be, and each its own."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agentflow.content import Address, SharedDirectory
from agentflow.domain.error import ContentError

SOURCE, TARGET = Address("origin", "artifacts/a", "step", 3), Address("fork", "artifacts/a", "step", 1)


@pytest.fixture
def store(tmp_path: Path) -> SharedDirectory:
    made = SharedDirectory(tmp_path / "store")
    made.store_id()
    made.put(SOURCE, b"content")
    return made


def _files(store: SharedDirectory) -> list[str]:
    return sorted(path.name for path in (store.root / "runs").rglob("*") if path.is_file())


def test_a_copy_takes_no_room_and_outlives_what_it_was_made_of(store: SharedDirectory) -> None:
    assert store.copy(SOURCE, TARGET)

    assert store.local_path(SOURCE).samefile(store.local_path(TARGET))
    store.delete_run("origin")
    assert store.open(TARGET).read() == b"content"
    assert store.local_path(TARGET).stat().st_mode & 0o777 == 0o600


def test_what_replaces_a_copy_leaves_its_source_as_it_was(store: SharedDirectory) -> None:
    store.copy(SOURCE, TARGET)

    store.put(TARGET, b"other")

    assert store.open(SOURCE).read() == b"content"


def test_a_copy_replaces_what_was_there_and_may_be_made_again(store: SharedDirectory) -> None:
    store.put(TARGET, b"before")

    assert store.copy(SOURCE, TARGET)
    assert store.copy(SOURCE, TARGET)

    assert store.open(TARGET).read() == b"content"
    assert _files(store) == ["a", "a"], "nothing unfinished stays"


def test_nothing_is_copied_from_nowhere(store: SharedDirectory) -> None:
    assert not store.copy(Address("origin", "gone", "step", 3), TARGET)

    assert _files(store) == ["a"]


@pytest.mark.parametrize("trouble", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_where_no_link_can_be_made_the_bytes_are_copied(
    store: SharedDirectory, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(trouble, os.strerror(trouble))

    monkeypatch.setattr(os, "link", refuse)

    assert store.copy(SOURCE, TARGET)

    assert not store.local_path(SOURCE).samefile(store.local_path(TARGET))
    assert store.open(TARGET).read() == b"content"
    assert _files(store) == ["a", "a"]


def test_a_full_store_is_told_as_one(store: SharedDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(ContentError, match="'artifacts/a' cannot be kept in the content store: No space left"):
        store.copy(SOURCE, TARGET)
