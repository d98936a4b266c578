"""The wheel is complete: installed into an environment that never saw the checkout, every program of it works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import shell_step, submitted, wait_for, wait_for_end
from tests.workers import REPOSITORY, environment_of

USER = "operator:flower-password"


class Installed:
    """An environment with the wheel, and with this environment's other packages; not with the checkout."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "env" / "bin"
        self.wheel = _build(folder)
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")])
        site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "env")}))
        # A plain path: the .pth files of that directory, an editable install of the checkout among them, do not count.
        (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "--quiet", "--no-deps"]
        _run([*install, "--no-index", str(self.wheel)])

    def environment(self, settings: Settings, folder: Path, **more: str) -> dict[str, str]:
        """What its programs get: the servers of a test, and no path to the checkout."""
        environment = environment_of(settings, folder)
        del environment["PYTHONPATH"]
        return {**environment, "PATH": f"{self.bin}:{environment['PATH']}", **more}

    def run(self, *command: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of its programs to its end."""
        env = env if env is not None else {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(cwd)}
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]], cwd=cwd, env=env, capture_output=True, text=True, check=False
        )


def _build(folder: Path) -> Path:
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=REPOSITORY)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _run(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own."""
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def start(house: Runtime, installed: Installed, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Start its programs in an empty directory; returns the log of each, and all are gone at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str, **environment: str) -> Path:
        log = tmp_path / f"{command[1]}.log"
        started.append(
            subprocess.Popen(
                [str(installed.bin / command[0]), *command[1:]],
                cwd=tmp_path,
                env=installed.environment(house.settings, tmp_path, **environment),
                stdout=log.open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        return log

    yield begin
    for process in started:
        process.terminate()
    for process in started:
        process.wait(30)


def _data_files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }


def test_every_file_of_the_package_is_in_the_wheel(installed: Installed, tmp_path: Path) -> None:
    told = installed.run("python", "-c", "import agentflow; print(agentflow.__file__)", cwd=tmp_path)
    package = Path(told.stdout.strip()).parent
    assert package.is_relative_to(installed.bin.parent)
    expected = _data_files(REPOSITORY / "agentflow")
    assert {"py.typed", "storage/sql/claim_step.sql", "storage/migrations/script.py.mako"} <= expected
    assert any(name.startswith("schemas/") for name in expected)
    assert any(name.startswith("starter/") for name in expected)
    assert _data_files(package) == expected
    assert not (package.parent / "tests").exists()


def test_the_help_lists_the_verbs(installed: Installed, tmp_path: Path) -> None:
    told = installed.run("agentflow", "--help", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    for verb in ("demo", "init", "up", "migrate", "worker", "flower", "beat", "run"):
        assert re.search(rf"\b{verb}\b", told.stdout), verb


def test_it_migrates_an_empty_database(
    installed: Installed, house: Runtime, settings: Settings, tmp_path: Path
) -> None:
    url = house.servers.database_url
    name = f"{url.rsplit('/', 1)[1]}_wheel"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        env = installed.environment(settings, tmp_path, AGENTFLOW_DATABASE_URL=f"{url.rsplit('/', 1)[0]}/{name}")
        done = installed.run("agentflow", "migrate", cwd=tmp_path, env=env)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    assert done.returncode == 0, done.stderr


def test_a_starter_plan_runs_on_its_worker(
    installed: Installed, house: Runtime, start: Callable[..., Path], tmp_path: Path
) -> None:
    env = installed.environment(house.settings, tmp_path)
    made = installed.run("agentflow", "init", "mine", cwd=tmp_path, env=env)
    assert made.returncode == 0, made.stderr
    start("agentflow", "worker", "-c", "2", "--without-gossip", "--without-mingle")
    (plan,) = (tmp_path / "mine").glob("*.yaml")
    done = installed.run("agentflow", "run", str(plan), "--json", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["state"] == "completed"


def test_its_flower_has_its_defaults_and_a_file_of_ones_own_wins(
    house: Runtime, start: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "flowerconfig.py").write_text("url_prefix = 'monitor'\n")
    log = start("agentflow", "flower", "--port=0", AGENTFLOW_FLOWER_BASIC_AUTH=USER)
    found = wait_for(lambda: re.search(r"Visit me at (http://127\.0\.0\.1:\d+)/monitor", log.read_text()))
    assert _ask(f"{found.group(1)}/monitor/api/tasks") == {}


def test_its_beat_leads_and_its_worker_works(house: Runtime, start: Callable[..., Path]) -> None:
    beat = start("agentflow", "beat")
    wait_for(lambda: "leader_changed" in beat.read_text())
    start("agentflow", "worker", "--profile", "commands", "-c", "1", "--without-gossip", "--without-mingle")
    run_id = submitted(house.context, [shell_step("flaky", "[ $AGENTFLOW_ATTEMPT -ge 2 ] || exit 75")])
    assert wait_for_end(house.context, run_id) == "completed"


def _ask(url: str) -> Any:
    request = urllib.request.Request(url)  # noqa: S310 - our own server on 127.0.0.1
    request.add_header("Authorization", "Basic " + b64encode(USER.encode()).decode())
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        return json.loads(answer.read())
