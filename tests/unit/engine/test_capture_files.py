"""Capturing files: what patterns match, what is written down, and that nothing outside the folder is taken."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from agentflow.engine.capture_files import Capture, capture_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plan's folder with files, a hidden one and a folder of folders; a secret lies beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "plans"
    (root / "data" / "deep").mkdir(parents=True)
    for name in ("plan.yaml", "run.py", "data/a.log", "data/b.log", "data/deep/c.log", ".env", "odd[1].txt"):
        (root / name).write_text(f"content of {name}")
    (root / "run.py").chmod(0o755)
    return root


def capture(folder: Path, *patterns: str, document: str | None = None, max_file_bytes: int = 1000) -> Capture:
    places = [(pattern, ("files", index)) for index, pattern in enumerate(patterns)]
    own = folder / document if document else None
    return capture_files(folder, places, document=own, max_file_bytes=max_file_bytes)


def only_message(found: Capture) -> str:
    assert [fault.code for fault in found.faults] == ["bad_file"]
    assert found.faults[0].path == ("files", 0)
    return found.faults[0].message


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("run.py", ["run.py"]),
        ("./run.py", ["run.py"]),
        ("data/*.log", ["data/a.log", "data/b.log"]),
        ("data/**", ["data/a.log", "data/b.log", "data/deep/c.log"]),
        ("**/*.log", ["data/a.log", "data/b.log", "data/deep/c.log"]),
        ("data/[ab].log", ["data/a.log", "data/b.log"]),
        ("odd[1].txt", ["odd[1].txt"]),
        ("*", ["odd[1].txt", "plan.yaml", "run.py"]),
        (".e*", [".env"]),
        (".env", [".env"]),
    ],
)
def test_a_pattern_matches_as_in_a_shell(folder: Path, pattern: str, expected: list[str]) -> None:
    found = capture(folder, pattern)
    assert found.faults == []
    assert sorted(found.files) == expected
    assert [file.path for file in found.plan_files()] == expected


def test_hash_size_and_executable_bit_are_written_down(folder: Path) -> None:
    script, log = capture(folder, "run.py", "data/a.log").plan_files()[::-1]
    content = b"content of run.py"
    assert (script.sha256, script.bytes, script.executable) == (hashlib.sha256(content).hexdigest(), len(content), True)
    assert not log.executable


def test_a_file_that_two_patterns_match_is_captured_once(folder: Path) -> None:
    found = capture(folder, "data/a.log", "data/*.log", "./data/a.log")
    assert (sorted(found.files), found.faults) == (["data/a.log", "data/b.log"], [])
    assert found.paths["data/a.log"].read_text() == "content of data/a.log"


def test_a_pattern_does_not_take_the_plan_itself_but_its_name_does(folder: Path) -> None:
    assert "plan.yaml" not in capture(folder, "*", document="plan.yaml").files
    assert "plan.yaml" in capture(folder, "plan.yaml", document="plan.yaml").files


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("absent.py", "there is no 'absent.py'"),
        ("*.rs", "matches no file"),
        ("../secret.txt", "leads out"),
        ("data/../../secret.txt", "leads out"),
        ("../*", "leads out"),
        ("/etc/passwd", "leads out"),
        ("data", "write data/**"),
        ("data/", "write data/**"),
        (".", "is a folder"),
    ],
)
def test_what_a_pattern_may_not_name_is_a_fault_at_its_place(folder: Path, pattern: str, words: str) -> None:
    assert words in only_message(capture(folder, pattern))


@pytest.mark.parametrize("pattern", ["link.txt", "*.txt"])
def test_a_link_that_leads_outside_is_refused(folder: Path, pattern: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    assert "link that leads out" in only_message(capture(folder, pattern))


def test_a_file_behind_a_linked_folder_outside_is_refused(folder: Path) -> None:
    (folder / "up").symlink_to(folder.parent)
    assert "link that leads out" in only_message(capture(folder, "up/secret.txt"))


def test_linked_folders_are_not_walked_so_that_a_circle_ends(folder: Path) -> None:
    (folder / "data" / "again").symlink_to(folder)
    assert sorted(capture(folder, "**/*.log").files) == ["data/a.log", "data/b.log", "data/deep/c.log"]


def test_a_link_inside_the_folder_is_captured_as_the_file_it_names(folder: Path) -> None:
    (folder / "latest.log").symlink_to("data/b.log")
    found = capture(folder, "latest.log")
    assert found.files["latest.log"].sha256 == hashlib.sha256(b"content of data/b.log").hexdigest()


def test_a_broken_link_is_a_fault(folder: Path) -> None:
    (folder / "gone.log").symlink_to("nowhere")
    assert "there is no 'gone.log'" in only_message(capture(folder, "*.log"))


def test_a_file_beyond_the_bound_is_a_fault(folder: Path) -> None:
    (folder / "big.bin").write_bytes(b"x" * 1001)
    assert "larger than 1000 bytes" in only_message(capture(folder, "big.bin"))


def test_a_pipe_is_no_file_and_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "no ordinary file" in only_message(capture(folder, "pipe"))


def test_a_name_that_is_not_utf_8_is_a_fault(folder: Path) -> None:
    (folder / os.fsdecode(b"data/\xff.log")).write_text("x")
    assert "not UTF-8" in only_message(capture(folder, "data/*.log"))


def test_every_pattern_with_a_fault_is_named(folder: Path) -> None:
    found = capture(folder, "absent", "run.py", "*.rs")
    assert [fault.path for fault in found.faults] == [("files", 0), ("files", 2)]
