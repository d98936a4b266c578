"""Files become artifacts by place or by announcement, and only from inside the attempt's directories."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.executors.artifact_search import ArtifactSearch, announced_paths
from agentflow.executors.base import Refusal


class World:
    """An attempt's directories, with a file of somebody else beside them."""

    def __init__(self, root: Path) -> None:
        self.work, self.artifacts, self.stdout = root / "work", root / "artifacts", root / "stdout"
        self.work.mkdir()
        self.artifacts.mkdir()
        self.outside = root / "outside.txt"
        self.outside.write_text("not yours")

    def write(self, base: Path, name: str, text: str = "x") -> Path:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def search(
        self, stdout: str = "", cwd: str = ".", limit: int = 100, is_stopped: Callable[[], bool] = lambda: False
    ) -> ArtifactSearch:
        self.stdout.write_text(stdout)
        search = ArtifactSearch(self.work, self.artifacts, limit, is_stopped)
        search.search_directory()
        search.search_announcements(self.stdout, (self.work / cwd).resolve())
        return search


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_file_under_the_artifacts_directory_is_found_with_size_and_hash(world: World) -> None:
    world.write(world.artifacts, "report.md", "hello")
    world.write(world.artifacts, "deep/er/data.bin", "12")

    search = world.search()

    assert list(search.found) == ["report.md", "deep/er/data.bin"]
    assert search.found["report.md"].bytes == 5
    assert search.found["report.md"].sha256 == hashlib.sha256(b"hello").hexdigest()
    assert search.found["deep/er/data.bin"].path == world.artifacts / "deep/er/data.bin"
    assert search.refusals == {}


def test_announced_files_are_found_relative_to_the_working_directory(world: World) -> None:
    for name in ("sub/a.txt", "sub/b.txt", "sub/c d.txt", "top.txt"):
        world.write(world.work, name)

    search = world.search("noise\nARTIFACT:  a.txt \nARTIFACTS: b.txt , c d.txt,\nARTIFACT: ../top.txt\n", cwd="sub")

    assert sorted(search.found) == ["a.txt", "b.txt", "c d.txt", "top.txt"]
    assert search.refusals == {}


def test_an_absolute_path_inside_the_work_directory_is_found(world: World) -> None:
    path = world.write(world.work, "out/x.txt")

    assert list(world.search(f"ARTIFACT: {path}\n").found) == ["out/x.txt"]


@pytest.mark.parametrize("written", ["../outside.txt", "{root}/outside.txt", "a/../../outside.txt", "/etc/passwd"])
def test_a_path_that_leads_outside_is_refused(world: World, written: str) -> None:
    search = world.search(f"ARTIFACT: {written.format(root=world.outside.parent)}\n")

    assert search.found == {}
    assert search.refusals == {Refusal.OUTSIDE: 1}


def test_links_count_if_they_stay_inside_and_are_refused_if_they_do_not(world: World) -> None:
    target = world.write(world.work, "real.txt", "real")
    (world.artifacts / "inside").symlink_to(target)
    (world.artifacts / "outside").symlink_to(world.outside)
    (world.artifacts / "dangling").symlink_to(world.work / "gone")
    (world.artifacts / "circle").symlink_to(world.artifacts / "circle")
    (world.artifacts / "folder").symlink_to(world.outside.parent)
    (world.work / "announced").symlink_to(world.outside)

    search = world.search("ARTIFACT: announced\n")

    assert list(search.found) == ["inside"]
    assert search.found["inside"].sha256 == hashlib.sha256(b"real").hexdigest()
    assert search.refusals == {Refusal.OUTSIDE: 3, Refusal.MISSING: 1, Refusal.LOOP: 1}


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(world: World) -> None:
    os.mkfifo(world.artifacts / "pipe")
    world.write(world.work, "folder/x.txt")

    search = world.search("ARTIFACT: folder\n")

    assert search.found == {}
    assert search.refusals == {Refusal.NOT_REGULAR: 2}


def test_a_missing_file_is_reported(world: World) -> None:
    assert world.search("ARTIFACT: gone.txt\n").refusals == {Refusal.MISSING: 1}


def test_a_name_registered_twice_is_the_file_in_the_artifacts_directory(world: World) -> None:
    world.write(world.artifacts, "report.md", "from the directory")
    world.write(world.work, "report.md", "announced")

    search = world.search("ARTIFACT: report.md\n")

    assert search.found["report.md"].path == world.artifacts / "report.md"


def test_the_number_of_artifacts_is_bounded(world: World) -> None:
    for number in range(5):
        world.write(world.artifacts, f"{number}.txt")

    search = world.search(limit=3)

    assert list(search.found) == ["0.txt", "1.txt", "2.txt"]
    assert search.refusals == {Refusal.TOO_MANY: 2}


@pytest.mark.parametrize(("kept", "announced"), [("d/a", "d"), ("d", "d/a"), ("d/e/f", "d"), ("d", "d/e/f")])
def test_a_file_with_the_name_of_a_folder_of_artifacts_is_refused(world: World, kept: str, announced: str) -> None:
    world.write(world.artifacts, kept)
    world.write(world.work, announced)

    search = world.search(f"ARTIFACT: {announced}\n")

    assert list(search.found) == [kept]
    assert search.refusals == {Refusal.NAME_IS_FOLDER: 1}


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_something_else_in_the_place_of_stdout_is_refused_without_waiting_for_it(
    world: World, make: Callable[[Path], None]
) -> None:
    world.write(world.artifacts, "a.txt")
    make(world.stdout)
    search = ArtifactSearch(world.work, world.artifacts, 10, lambda: False)

    search.search_announcements(world.stdout, world.work)

    assert search.refusals == {Refusal.STDOUT_REPLACED: 1}


def test_a_stopped_search_reads_no_further_file(world: World) -> None:
    world.write(world.artifacts, "a.txt")

    assert world.search(is_stopped=lambda: True).found == {}


def test_lines_that_only_look_like_announcements_are_none(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(b"ARTIFACTORY: a\nARTIFACT b\nthe ARTIFACT: c\nARTIFACT:\nARTIFACT: d,e\r\n  ARTIFACT: f")

    assert list(announced_paths(path)) == ["d,e", "f"]


def test_an_endless_line_hides_no_announcement_and_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(b"x" * (16 * 1024) + b"ARTIFACT: inside\nARTIFACT: after\n")

    assert list(announced_paths(path)) == ["after"]
