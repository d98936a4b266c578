"""What is kept of a stream is bounded, hashed and private."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentflow.executors.stream_capture import StreamCapture


def captured(path: Path, limit: int, chunks: list[bytes], secrets: tuple[bytes, ...] = ()) -> dict[str, object]:
    capture = StreamCapture(str(path), limit, secrets)
    for chunk in chunks:
        capture.take(chunk)
    return capture.close()


def test_a_stream_within_its_bound_is_kept_whole(tmp_path: Path) -> None:
    record = captured(tmp_path / "out", 6, [b"abc", b"def"])

    assert (tmp_path / "out").read_bytes() == b"abcdef"
    assert record == {
        "path": str(tmp_path / "out"),
        "bytes_seen": 6,
        "bytes_kept": 6,
        "sha256": hashlib.sha256(b"abcdef").hexdigest(),
        "is_cut": False,
    }


def test_a_stream_beyond_its_bound_is_cut_there_counted_and_hashed_as_kept(tmp_path: Path) -> None:
    record = captured(tmp_path / "out", 5, [b"abc", b"def", b"ghi"])

    assert (tmp_path / "out").read_bytes() == b"abcde"
    assert (record["bytes_seen"], record["bytes_kept"], record["is_cut"]) == (9, 5, True)
    assert record["sha256"] == hashlib.sha256(b"abcde").hexdigest()


def test_a_secret_at_the_bound_does_not_show_its_beginning(tmp_path: Path) -> None:
    captured(tmp_path / "out", 6, [b"key=ses", b"ame-and-more"], secrets=(b"sesame",))

    assert (tmp_path / "out").read_bytes() == b"key=**"


def test_what_was_held_back_for_a_secret_is_kept_at_the_end(tmp_path: Path) -> None:
    record = captured(tmp_path / "out", 100, [b"open ses"], secrets=(b"sesame",))

    assert (tmp_path / "out").read_bytes() == b"open ses"
    assert record["is_cut"] is False


def test_the_file_is_private_and_overwrites_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("older and longer")
    path.chmod(0o644)

    captured(path, 100, [b"new"])

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic links"):
        captured(tmp_path / "out", 100, [b"new"])

    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_full_disk_cuts_the_stream_and_says_so(tmp_path: Path) -> None:
    capture = StreamCapture(str(tmp_path / "out"), 100_000, ())
    with files_limited_to(4096):
        capture.take(b"x" * 5000)
        capture.take(b"y" * 5000)
    record = capture.close()

    assert (record["bytes_seen"], record["bytes_kept"], record["is_cut"]) == (10_000, 4096, True)
    assert record["sha256"] == hashlib.sha256(b"x" * 4096).hexdigest()
    assert capture.problem is not None
    assert str(tmp_path / "out") in capture.problem


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
