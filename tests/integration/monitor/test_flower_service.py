"""`agentflow flower`: where its configuration comes from, that it is closed by default, and that it ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agentflow.runtime import Runtime
from tests.integration.monitor.flower import FlowerProcess
from tests.workers import REPOSITORY, environment_of

LISTS_OPTIONS = """
import json, sys
from flower.app import Flower
Flower.start_http_server = lambda self: print(json.dumps({name: repr(self.options[name]) for name in self.options}))
Flower.start = lambda self: None
from agentflow.cli.main import main
sys.exit(main(["flower", *sys.argv[1:]]))
"""


def _flower(house: Runtime, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start Flower up to the point where it would listen; its options as it then has them are on stdout."""
    return subprocess.run(
        [sys.executable, "-c", LISTS_OPTIONS, *arguments],
        cwd=folder,
        env={**environment_of(house.settings, folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


REFUSES = """
import contextlib, io, json, sys
from flower.app import Flower
Flower.start_http_server = Flower.start = lambda self: None
from agentflow.cli.main import main
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as told:
        code = main(["flower", *arguments])
    print(json.dumps([arguments, code, told.getvalue()]))
"""


def _refusals(house: Runtime, folder: Path, *commands: list[str]) -> list[tuple[list[str], int, str]]:
    """Start Flower with each of these arguments, in one process: what is refused leaves nothing there."""
    told = subprocess.run(
        [sys.executable, "-c", REFUSES, json.dumps(commands)],
        cwd=folder, env=environment_of(house.settings, folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    refused = [json.loads(line) for line in told.stdout.splitlines()]
    assert [each[0] for each in refused] == list(commands)
    return refused


def _options(house: Runtime, folder: Path, *arguments: str, **environment: str) -> dict[str, str]:
    started = _flower(house, folder, *arguments, **environment)
    assert started.returncode == 0, started.stderr
    options: dict[str, str] = json.loads(started.stdout.splitlines()[0])
    return options


def test_the_defaults_keep_it_on_this_machine_and_show_what_a_step_is(house: Runtime, tmp_path: Path) -> None:
    options = _options(house, tmp_path)
    assert options["address"] == "'127.0.0.1'"
    assert (options["natural_time"], options["max_tasks"]) == ("False", "20000")
    assert int(options["purge_offline_workers"]) > 0
    assert {"kwargs", "retries"} <= set(options["tasks_columns"].strip("'").split(","))


def test_the_command_line_wins_over_the_file_the_file_over_the_environment_and_that_over_the_defaults(
    house: Runtime, tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "flowerconfig.py").write_text("max_tasks = 7\nport = 7\n")
    options = _options(house, tmp_path, "--port=0", FLOWER_MAX_TASKS="8", FLOWER_MAX_WORKERS="8")
    assert (options["port"], options["max_tasks"], options["max_workers"]) == ("0", "7", "8")
    assert options["address"] == "'127.0.0.1'", "a file need not repeat the defaults"


def test_the_settings_name_another_configuration_file(house: Runtime, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("max_tasks = 9\n")
    options = _options(house, tmp_path, AGENTFLOW_FLOWER_CONFIG=str(tmp_path / "mine.py"))
    assert options["max_tasks"] == "9"
    missing = _flower(house, tmp_path, AGENTFLOW_FLOWER_CONFIG=str(tmp_path / "absent.py"))
    assert missing.returncode == 2
    assert "absent.py" in missing.stderr


def test_the_repositorys_file_is_complete_by_itself(house: Runtime, tmp_path: Path) -> None:
    options = _options(house, tmp_path, f"--conf={REPOSITORY / 'config' / 'flowerconfig.py'}")
    assert (options["address"], options["max_tasks"]) == ("'127.0.0.1'", "20000")


def test_it_does_not_listen_on_the_network_without_a_password(house: Runtime, tmp_path: Path) -> None:
    addresses = ["0.0.0.0", "::", "", "192.0.2.1", "some-host"]  # noqa: S104 - refused
    for arguments, code, told in _refusals(house, tmp_path, *([f"--address={each}"] for each in addresses)):
        assert code == 2, arguments
        assert "AGENTFLOW_FLOWER_BASIC_AUTH" in told, arguments
        assert "Traceback" not in told, arguments


def test_it_listens_on_the_network_with_a_password_from_a_file(house: Runtime, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("operator:flower-password\n")
    options = _options(house, tmp_path, "--address=0.0.0.0", AGENTFLOW_FLOWER_BASIC_AUTH_FILE=str(tmp_path / "auth"))
    assert options["basic_auth"] == "['operator:flower-password']"


def test_a_misspelt_option_is_refused_and_not_passed_over(house: Runtime, tmp_path: Path) -> None:
    for arguments, code, told in _refusals(house, tmp_path, ["--adress=127.0.0.1"], ["-x"], ["127.0.0.1"]):
        assert code == 2, arguments
        assert arguments[0] in told


def test_a_port_that_is_taken_is_said_in_a_sentence(house: Runtime, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = subprocess.run(
            [sys.executable, "-m", "agentflow", "flower", f"--port={port}"],
            cwd=tmp_path, env=environment_of(house.settings, tmp_path), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert told.returncode == 2
    assert told.stderr.endswith(
        f"Flower cannot listen at 127.0.0.1, port {port}: Address already in use. Another program may have the port: "
        "choose another one by --port or FLOWER_PORT.\n"
    )
    assert "Traceback" not in told.stderr


def test_with_a_password_nobody_gets_in_without_it(flower: FlowerProcess) -> None:
    for path in ("/", "/api/tasks"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(flower.url + path)  # noqa: S310 - our own server on 127.0.0.1


def test_it_ends_at_once_when_it_is_stopped_and_leaves_no_file_behind(flower: FlowerProcess) -> None:
    assert flower.url
    assert flower.stop() == 0
    assert list(flower.cwd.iterdir()) == []
