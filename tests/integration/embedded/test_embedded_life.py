"""Starts, ends and deaths: what must come back, what must be gone, and who may own a home."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentflow.domain.error import ConfigurationError, ServersUnreachable
from agentflow.embedded import AlreadyRunning, EmbeddedPostgres, EmbeddedServers, EmbeddedValkey
from agentflow.embedded.paths import Account, make_data_directory, server_account
from agentflow.embedded.server import EmbeddedServer
from tests.integration.embedded.harness import (
    OWNER_PROGRAM,
    Owner,
    as_root,
    processes_of,
    store_something,
    stored,
    wait_until_gone,
)

Own = Callable[..., Owner]


def test_an_owners_sigkill_leaves_no_process_and_loses_no_data(home: Path, own: Own) -> None:
    owner = own(home)
    ready = owner.ready()
    store_something(ready["database_url"], ready["redis_url"])
    owner.kill()
    assert not wait_until_gone(home)
    with EmbeddedServers(home) as servers:
        assert stored(servers) == ("here", "here")
        assert [servers.urls.database_url, servers.urls.redis_url] == [ready["database_url"], ready["redis_url"]]


def test_a_new_owner_starts_at_once_after_the_sigkill_of_the_old(home: Path, own: Own) -> None:
    owner = own(home)
    owner.ready()
    owner.process.kill()
    owner.process.wait()
    with EmbeddedServers(home, fsync=False) as servers:
        assert servers.poll() is None


def test_servers_that_died_are_named_and_come_back_with_their_data(home: Path) -> None:
    with EmbeddedServers(home, fsync=False) as servers:
        store_something(servers.urls.database_url, servers.urls.redis_url)
        before = servers.urls
        for server in (servers.postgres, servers.valkey):
            kill(server)
            assert servers.poll() == server.name
            assert servers.start() == before
            assert servers.poll() is None
        assert stored(servers) == ("here", "here")


def test_a_postgres_that_died_in_the_middle_of_work_comes_back(home: Path) -> None:
    with EmbeddedPostgres(home, fsync=False) as server:
        url = server.url
        with psycopg.connect(url, autocommit=True) as watch:
            worker = threading.Thread(target=compute, args=[url])
            worker.start()
            query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = %s"
            while watch.execute(query, [COMPUTATION]).fetchone() != (1,):
                assert worker.is_alive()
            kill(server)
        # Its child computes on and does not notice at once that the server is gone.
        assert server.start() == url
        worker.join(timeout=10)
        assert not worker.is_alive()


COMPUTATION = "SELECT count(*) FROM generate_series(1, 10) a, generate_series(1, 100000000) b"


def compute(url: str) -> None:
    with pytest.raises(psycopg.OperationalError), psycopg.connect(url) as connection:
        connection.execute(COMPUTATION)


def kill(server: EmbeddedServer) -> None:
    assert server.pid is not None
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_second_owner_is_told_who_the_first_is(home: Path, own: Own) -> None:
    owner = own(home)
    owner.ready()
    with pytest.raises(AlreadyRunning, match=f"process {owner.process.pid}") as refusal:
        EmbeddedServers(home).start()
    assert refusal.value.pid == owner.process.pid
    with pytest.raises(AlreadyRunning):
        EmbeddedPostgres(home).start()
    assert owner.close() == 0
    assert not processes_of(home)


def test_a_refused_owner_may_come_back_when_the_first_is_gone(home: Path, own: Own) -> None:
    owner = own(home)
    owner.ready()
    servers = EmbeddedServers(home, fsync=False)
    with pytest.raises(AlreadyRunning):
        servers.start()
    owner.close()
    with servers:
        assert servers.poll() is None


def test_a_kill_in_the_middle_of_initdb_leaves_nothing_that_looks_like_a_cluster(new_home: Path, own: Own) -> None:
    fake = new_home.parent / "fake"
    fake.mkdir()
    (fake / "postgres").write_text('#!/bin/sh\necho "postgres (PostgreSQL) 18.6"\n')
    # An initdb that gets as far as the version file, tells so and hangs.
    (fake / "initdb").write_text('#!/bin/sh\necho 18 > "${1#--pgdata=}/PG_VERSION"\nexec sleep 60\n')
    for tool in fake.iterdir():
        tool.chmod(0o755)
    owner = own(new_home, "--binaries", str(fake))
    while not list(new_home.glob("postgres/new-*/PG_VERSION")):
        assert owner.process.poll() is None
    owner.kill()
    assert not (new_home / "postgres/data").exists()
    with EmbeddedServers(new_home, fsync=False) as servers:
        assert servers.poll() is None
    assert not list(new_home.glob("postgres/new-*"))


def test_a_port_that_somebody_took_is_left_to_him(home: Path) -> None:
    servers = EmbeddedServers(home, fsync=False)
    servers.start()
    ports = [servers.postgres.port, servers.valkey.port]
    servers.stop()
    with listening_on(ports[0]), listening_on(ports[1]) as stranger, servers:
        assert not {servers.postgres.port, servers.valkey.port} & set(ports)
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody came, least of all with a password
            stranger.accept()
        store_something(servers.urls.database_url, servers.urls.redis_url)
        assert stored(servers) == ("here", "here")


def listening_on(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def test_data_of_another_major_version_are_refused_with_what_to_do(new_home: Path) -> None:
    data = new_home / "postgres/data"
    data.parent.mkdir(parents=True)
    make_data_directory(data, server_account())
    (data / "PG_VERSION").write_text("15\n")
    with pytest.raises(ConfigurationError, match=r"written by PostgreSQL 15, the binaries are PostgreSQL 18.*pg_dump"):
        EmbeddedServers(new_home).start()
    assert not processes_of(new_home)


@as_root
def test_data_of_another_account_are_refused(new_home: Path) -> None:
    with EmbeddedValkey(new_home):
        pass
    os.chown(new_home / "valkey/data", 1, 1)
    with pytest.raises(ConfigurationError, match="belongs to uid 1"):
        EmbeddedServers(new_home).start()


def test_a_lost_password_file_is_made_anew(home: Path) -> None:
    with EmbeddedPostgres(home, fsync=False) as server:
        before = server.url
    (home / "postgres/password").unlink()
    with EmbeddedPostgres(home, fsync=False) as server:
        assert server.url != before
        with psycopg.connect(server.url) as connection:
            connection.execute("SELECT 1")


def test_a_server_that_cannot_start_is_quoted_and_takes_the_other_with_it(home: Path) -> None:
    manifest = home / "valkey/data/appendonlydir/appendonly.aof.manifest"
    good = manifest.read_text()
    manifest.write_text("not a manifest\n")
    try:
        with pytest.raises(ServersUnreachable, match=r"valkey ended(.|\n)*Invalid AOF manifest file format"):
            EmbeddedServers(home, fsync=False).start()
        assert not processes_of(home)
    finally:
        manifest.write_text(good)


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_a_server_that_outlived_its_owner_is_ended_first(home: Path, kind: type[EmbeddedServer]) -> None:
    # What a kill of the owner leaves where the kernel does not end its children.
    server = kind(home, fsync=False)
    server.start()
    command = server.arguments(server.port)
    server.stop()
    orphan = subprocess.Popen(command, **lent(server.account), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not server.is_ready(orphan.pid):
            assert orphan.poll() is None
        with kind(home, fsync=False) as successor:
            assert orphan.wait(timeout=5) is not None
            assert successor.pid != orphan.pid
    finally:
        orphan.kill()
        orphan.wait()


def test_a_stranger_with_the_process_id_of_a_former_server_is_left_alone(home: Path) -> None:
    with EmbeddedServers(home, fsync=False) as servers:
        postgres_file = (home / "postgres/data/postmaster.pid").read_text()
        account = servers.postgres.account
    stranger = subprocess.Popen(["/bin/sleep", "60"], **lent(account))
    try:
        lines = postgres_file.splitlines()[1:]
        (home / "postgres/data/postmaster.pid").write_text("\n".join([str(stranger.pid), *lines]) + "\n")
        (home / "valkey/data/valkey.pid").write_text(f"{stranger.pid}\n")
        with EmbeddedServers(home, fsync=False) as servers:
            assert servers.poll() is None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def lent(account: Account | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


@as_root
def test_an_ordinary_user_runs_the_servers_as_himself(new_home: Path, own: Own, copied_wheels: Path) -> None:
    new_home.mkdir(mode=0o700)
    os.chown(new_home, 65534, 65534)
    owner = own(new_home, "--as", "nobody", "--site", str(copied_wheels))
    ready = owner.ready()
    store_something(ready["database_url"], ready["redis_url"])
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in ready["pids"]} == {65534}
    assert {path.stat().st_uid for path in new_home.rglob("*")} == {65534}
    assert not [path for path in (new_home, *new_home.iterdir()) if path.stat().st_mode & 0o077]
    assert not (new_home / "binaries").exists()
    assert owner.close() == 0


@as_root
def test_binaries_that_only_root_can_reach_are_lent_as_a_copy(new_home: Path, own: Own, copied_wheels: Path) -> None:
    copied_wheels.chmod(0o700)
    copies: list[set[int]] = []
    try:
        for _ in range(2):
            owner = own(new_home, "--site", str(copied_wheels))
            for pid in owner.ready()["pids"]:
                assert Path(f"/proc/{pid}/exe").readlink().is_relative_to(new_home / "binaries")
            assert owner.close() == 0
            copies.append({copy.stat().st_ino for copy in (new_home / "binaries").iterdir()})
    finally:
        copied_wheels.chmod(0o755)
    assert len(copies[0]) == 2
    assert copies[1] == copies[0]


@as_root
def test_binaries_that_the_account_can_read_are_used_where_they_are(
    new_home: Path, own: Own, copied_wheels: Path
) -> None:
    owner = own(new_home, "--site", str(copied_wheels))
    programs = [Path(f"/proc/{pid}/exe").readlink() for pid in owner.ready()["pids"]]
    assert all(program.is_relative_to(copied_wheels) for program in programs)
    assert owner.close() == 0


@as_root
def test_a_home_of_root_is_refused_to_an_ordinary_user(home: Path) -> None:
    command = [sys.executable, str(OWNER_PROGRAM), str(home), "--as", "nobody"]
    attempt = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert "ConfigurationError: " in attempt.stderr
    assert "belongs to another account" in attempt.stderr


@as_root
def test_a_home_below_a_directory_that_the_account_cannot_enter_is_refused(new_home: Path) -> None:
    new_home.parent.chmod(0o700)
    with pytest.raises(ConfigurationError, match=f"nobody may not enter {new_home.parent}"):
        EmbeddedServers(new_home).start()
    assert new_home.parent.stat().st_mode & 0o777 == 0o700
