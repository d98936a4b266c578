"""An answer is unpacked, masked, bounded and kept in one private file; its type is one that is known."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import pytest

from agentflow.executors.http_answer import (
    AnswerFile,
    AnswerTooLargeError,
    NotKeptError,
    Unpacker,
    UnreadableAnswerError,
    header_of,
    media_type_of,
)
from agentflow.executors.http_exchange import retry_after_seconds


def _unpacked(encoding: str, packed: bytes, step: int = 7) -> bytes:
    unpacker = Unpacker(encoding)
    pieces = [piece for at in range(0, len(packed), step) for piece in unpacker.feed(packed[at : at + step])]
    return b"".join([*pieces, unpacker.flush()])


def test_an_answer_is_kept_masked_in_a_file_of_its_own(tmp_path: Path) -> None:
    answer = AnswerFile(tmp_path / "body", 100, ('se"same',))
    for piece in (b'the word is se"sa', b"me, in JSON ", b'se\\"same'):
        answer.take(piece)
    answer.finish()

    kept = b"the word is ***, in JSON ***"
    assert answer.path.read_bytes() == kept
    assert (answer.bytes, answer.sha256) == (len(kept), hashlib.sha256(kept).hexdigest())
    assert answer.path.stat().st_mode & 0o777 == 0o600


def test_an_answer_may_have_as_many_bytes_as_the_limit_says_and_no_more(tmp_path: Path) -> None:
    answer = AnswerFile(tmp_path / "body", 10, ())
    answer.take(b"0123456789")

    with pytest.raises(AnswerTooLargeError):
        answer.take(b"0")

    answer.discard()
    answer.discard()
    assert not answer.path.exists()


def test_a_file_that_is_there_already_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "body").write_text("mine")

    with pytest.raises(FileExistsError):
        AnswerFile(tmp_path / "body", 10, ())

    assert (tmp_path / "body").read_text() == "mine"


def test_a_disk_that_takes_no_more_is_told_from_a_network_that_fails(tmp_path: Path) -> None:
    answer = AnswerFile(tmp_path / "body", 100, ())
    answer.finish()

    with pytest.raises(NotKeptError) as caught:
        answer.take(b"more")

    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", b"plain"),
        ("identity", b"plain"),
        ("gzip", gzip.compress(b"plain", mtime=0)),
        (" X-GZIP ", gzip.compress(b"plain", mtime=0)),
        ("deflate", zlib.compress(b"plain")),
        ("gzip", gzip.compress(b"pl", mtime=0) + gzip.compress(b"ain", mtime=0)),
    ],
)
def test_an_answer_is_unpacked_though_it_was_not_asked_to_be_packed(encoding: str, packed: bytes) -> None:
    assert _unpacked(encoding, packed, 3) == b"plain"
    assert _unpacked(encoding, packed, 1000) == b"plain"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("br", b"plain"),
        ("gzip, gzip", b"plain"),
        ("gzip", b"plain"),
        ("gzip", gzip.compress(b"plain", mtime=0)[:-3]),
        ("gzip", b""),
    ],
)
def test_what_cannot_be_unpacked_is_no_answer(encoding: str, packed: bytes) -> None:
    with pytest.raises(UnreadableAnswerError):
        _unpacked(encoding, packed)


def test_an_answer_that_grows_when_it_is_unpacked_comes_in_bounded_pieces() -> None:
    unpacker = Unpacker("gzip")

    sizes = [len(piece) for piece in unpacker.feed(gzip.compress(bytes(64 * 1024 * 1024)))]

    assert sum(sizes) + len(unpacker.flush()) == 64 * 1024 * 1024
    assert max(sizes) <= 256 * 1024


@pytest.mark.parametrize(
    ("written", "media_type"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("application/vnd.sesame+json", "application/json"),
        ("application/atom+xml; x=sesame", "application/xml"),
        ("text/csv", "text/csv"),
        ("text/sesame", "text/plain"),
        ("sesame/sesame", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("image/png", "image/png"),
    ],
)
def test_a_media_type_is_one_that_is_known(written: str, media_type: str) -> None:
    assert media_type_of(written) == media_type


def test_a_header_is_found_whatever_its_capitals() -> None:
    headers = [(b"Content-Encoding", b"gzip"), (b"X", b"y"), (b"content-encoding", b" br ")]

    assert header_of(headers, b"content-encoding") == "gzip, br"


_DATE = "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("1.5", 1.5),
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90),
        ("Saturday, 21-Nov-26 12:01:30 GMT", 90),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("9" * 5000, None),
        ("Sat, 99 Nov 2026 12:01:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_servers_own_clock(written: str, seconds: float | None) -> None:
    assert retry_after_seconds(written, _DATE) == seconds


def test_a_date_to_wait_for_is_measured_from_now_where_the_answer_has_none() -> None:
    seconds = retry_after_seconds("Fri, 31 Dec 2100 00:00:00 GMT", "")

    assert seconds is not None
    assert seconds > 24 * 3600
