"""A stranger with curl and the description: from `up --api` to a finished run and what it left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.factories import wait_for
from tests.stacks import CommandLine, read_until


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])


class Stranger:
    """Who has an address and a key, reads the description, and calls nothing but what stands in it."""

    def __init__(self, base: str, key: str) -> None:
        self._root = base.removesuffix("/api/v1")
        self._key = key
        self.description: dict[str, Any] = self._call("GET", "/api/v1/openapi.json")

    def call(self, address: str, body: Any = None, /, **variables: str) -> Any:
        """Call the address of a name in the description; its example is the body where none is given."""
        for path, methods in self.description["paths"].items():
            for method, operation in methods.items():
                if operation["operationId"] == address:
                    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
                    filled = path.format(**variables)
                    return self._call(method.upper(), filled, content.get("example") if body is None else body)
        raise AssertionError(f"{address} is not described")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        curl = shutil.which("curl")
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        if curl is None:
            answer = httpx2.request(method, self._root + path, headers=headers, json=body, timeout=30)
            text = answer.raise_for_status().text
        else:
            told = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
            given = [] if body is None else ["--data-binary", json.dumps(body)]
            command = [curl, "-sS", "--fail-with-body", "-X", method, *told, *given, self._root + path]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            text = done.stdout
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text


def test_a_stranger_gets_from_a_key_to_a_finished_run(cli: CommandLine) -> None:
    up = cli.answer("up", "--api", "--detach", AGENTFLOW_API_PORT=_free_port())
    key_file = Path(up["key_file"])
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_text(encoding="utf-8").strip()

    admin = Stranger(up["api"], key)
    operator = Stranger(up["api"], admin.call("keys_create_key")["key"])
    run = operator.call("runs_submit")
    wait_for(lambda: operator.call("runs_show", run=run["id"])["state"] == "completed")
    kept = [each["name"] for each in operator.call("runs_artifacts", run=run["id"])["artifacts"]]
    said = operator.call("runs_artifact", run=run["id"], name=next(each for each in kept if each == "stdout"))
    assert said == "good morning\n"
    assert operator.call("health_ready")["status"] == "ok"
    assert f"the API answers at {up['api']}" in cli.run("doctor").stdout

    _check_that_nothing_tells(cli, key)
    again = cli.answer("up", "--api", "--detach")
    assert (again["existing"], again["api"], again["key_state"]) == (True, up["api"], "valid")
    cli.answer("down")
    assert cli.processes() == {}


def _check_that_nothing_tells(cli: CommandLine, key: str) -> None:
    """No log, no argument and no environment holds the key."""
    for log in (cli.home / "log").iterdir():
        assert key not in log.read_text(encoding="utf-8", errors="replace"), log
    for pid, words in cli.processes().items():
        assert key.encode() not in words.encode() + Path(f"/proc/{pid}/environ").read_bytes()


def test_a_key_that_was_lost_is_replaced_and_one_that_stands_is_kept(cli: CommandLine) -> None:
    port = _free_port()
    first = cli.answer("up", "--api", "--detach", AGENTFLOW_API_PORT=port)
    key_file = Path(first["key_file"])
    kept = key_file.read_text(encoding="utf-8")
    cli.answer("down")

    cli.answer("up", "--api", "--detach", AGENTFLOW_API_PORT=port)
    assert key_file.read_text(encoding="utf-8") == kept
    cli.answer("down")
    key_file.unlink()
    cli.answer("up", "--api", "--detach", AGENTFLOW_API_PORT=port)

    listed = cli.answer("key", "list")["keys"]
    assert [(each["name"], each["role"], each["state"]) for each in listed] == [
        ("up", "admin", "valid"),
        ("up", "admin", "revoked"),
    ]
    with httpx2.Client(headers={"Authorization": f"Bearer {kept.strip()}"}) as former:
        assert former.get(f"{first['api']}/runs").status_code == 401


def test_a_key_that_was_revoked_is_not_told_as_one_that_opens(cli: CommandLine) -> None:
    port = _free_port()
    kept = Path(cli.answer("up", "--api", "--detach", AGENTFLOW_API_PORT=port)["key_file"])
    text = kept.read_text(encoding="utf-8")
    cli.answer("key", "revoke", "up")
    cli.answer("down")

    said = cli.run("up", "--api", "--detach", AGENTFLOW_API_PORT=port).stdout
    assert "The API takes the key" not in said
    assert f"The key in {kept} is revoked" in said
    assert "remove the file" in said
    assert kept.read_text(encoding="utf-8") == text, "what a person revoked is not replaced behind their back"
    joined = cli.answer("up", "--api", "--detach")
    assert (joined["existing"], joined["key_state"]) == (True, "revoked")
    assert f"The key in {kept} is revoked" in cli.run("up", "--detach").stdout
    assert f"takes no key of {kept}" in cli.run("doctor").stdout


def test_a_port_that_is_taken_is_named_and_nothing_stays(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = cli.run("up", "--api", "--detach", AGENTFLOW_API_PORT=port)

    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "AGENTFLOW_API_PORT" in done.stderr
    assert cli.processes() == {}


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_api_ends_in_order_with_streams_open(cli: CommandLine, processes: str) -> None:
    up = cli.answer("up", "--detach")
    assert up["api"] is None
    key = cli.answer("key", "create", "me", "--role", "operator")["key"]
    port = _free_port()
    api = cli.start("api", "--port", port, "--processes", processes)
    read_until(api, "The API answers")
    with (
        httpx2.Client(headers={"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}, timeout=30) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/api/v1/events") as stream,
    ):
        assert stream.status_code == 200
        next(stream.iter_raw())
        os.kill(api.pid, signal.SIGTERM)
        words, _ = api.communicate(timeout=30)

    assert api.returncode == 0, words
    assert "Traceback" not in words


def test_on_another_address_it_is_said_what_stands_open(cli: CommandLine) -> None:
    cli.answer("up", "--detach")
    api = cli.start("api", "--host", "0.0.0.0", "--port", _free_port())  # noqa: S104 - that is what is tried
    assert "a proxy that speaks TLS" in read_until(api, "The API answers")
    api.send_signal(signal.SIGINT)
    api.communicate(timeout=30)
