"""Settings that cannot be used are told by their place, with what to write instead, and never with a secret."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

import agentflow
from agentflow.domain.error import ConfigurationError, UsageError
from agentflow.settings import Settings, given_variables, load_settings
from agentflow.storage.database import Database
from tests.unit.cli.answers import complain

NAMED = re.compile(r"\bAGENTFLOW_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!_)")
CAPS = """
http_private_hosts = ["10.0.0.0/8"]
is_redacting = false

[budgets]
timezone = "Europe/Berlin"
installation = {usd_per_day = 20}

[budgets.project.ops]
tokens = 1_000_000
"""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of one's own and no other variable of agentflow's."""
    for name in [name for name in os.environ if name.startswith("AGENTFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTFLOW_HOME", str(tmp_path))
    return tmp_path


def refused(**overrides: object) -> str:
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(**overrides)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LEASE_SECONDS", "many", "AGENTFLOW_LEASE_SECONDS: takes a number, not 'many'"),
        ("LEASE_SECONDS", "400", "AGENTFLOW_LEASE_SECONDS: must be at most 24"),
        ("LEASE_SECONDS", "0.5", "AGENTFLOW_LEASE_SECONDS: must be at least 1"),
        ("LOST_DOORBELL_SECONDS", "0", "AGENTFLOW_LOST_DOORBELL_SECONDS: must be more than 0"),
        ("CHAIN_LIMIT", "1.5", "AGENTFLOW_CHAIN_LIMIT: takes a whole number, not '1.5'"),
        ("LOG_LEVEL", "loud", "AGENTFLOW_LOG_LEVEL: takes one of 'debug', 'info', 'warning' or 'error'"),
        ("REDACT", "perhaps", "AGENTFLOW_REDACT: takes true or false, not 'perhaps'"),
        ("BUDGETS", "lots", "AGENTFLOW_BUDGETS: takes JSON"),
        ("BUDGETS", '{"timezone": "Mars"}', "AGENTFLOW_BUDGETS (timezone): 'Mars' is no time zone"),
        (
            "BUDGETS",
            '{"project": {"ops": {"tokens": 0}}}',
            "AGENTFLOW_BUDGETS (project.ops.tokens): must be at least 1",
        ),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_with_what_it_takes(
    variable: str, value: str, words: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AGENTFLOW_{variable}", value)

    assert refused().startswith(f"The settings cannot be used: {words}")


def test_every_setting_that_cannot_be_used_is_told_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_LEASE_SECONDS", "many")
    (home / "agentflow.toml").write_text("chain_limit = 99\nactor = 5\n")

    told = refused(log_format="xml")

    assert "AGENTFLOW_LEASE_SECONDS: " in told
    assert f"chain_limit in {home}/agentflow.toml: must be at most 16" in told
    assert f"actor in {home}/agentflow.toml: takes text" in told
    assert "log_format: takes one of 'console' or 'json'" in told


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        ("database_url", "mysql://someone:sesame@db/x", "names mysql, and agentflow needs PostgreSQL"),
        ("database_url", "sqlite:////var/sesame.db", "names sqlite"),
        ("database_url", "sesame", "is no url: write postgresql://user:password@host:port/name"),
        ("database_url", "se same://x", "names something else"),
        ("redis_url", "http://:sesame@cache:6379", "names http, and agentflow needs Redis or Valkey"),
        ("redis_url", "redis://:ses/ame@cache:6379", "cannot be read: write redis://:password@host:port/0"),
    ],
)
@pytest.mark.parametrize("form", ["", "_FILE"])
def test_the_url_of_another_kind_of_server_is_refused_without_its_password(
    name: str, url: str, words: str, form: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "url").write_text(url)
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", "postgresql://db/x")
    monkeypatch.setenv("AGENTFLOW_REDIS_URL", "redis://cache")
    monkeypatch.delenv(f"AGENTFLOW_{name.upper()}")
    monkeypatch.setenv(f"AGENTFLOW_{name.upper()}{form}", str(home / "url") if form else url)

    told = refused()

    assert f"AGENTFLOW_{name.upper()}{form}: {words}" in told
    assert "ses" not in told


@pytest.mark.parametrize("url", ["postgresql://h:port/x", "://", "mysql://u:sesame@h/x", "postgresql+asyncpg://h/x"])
def test_a_database_is_never_opened_by_a_url_that_is_none_of_postgresqls(url: str) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://user:password@host:port/name") as refusal:
        Database(url)

    assert "sesame" not in str(refusal.value)


def test_the_command_line_tells_a_wrong_server_without_a_traceback(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", "mysql://someone:sesame@db/x")
    monkeypatch.setenv("AGENTFLOW_REDIS_URL", "redis://cache")

    told = complain(capsys, "runs", code=2)

    assert "names mysql" in told
    assert "Traceback" not in told
    assert "sesame" not in told


def test_the_configuration_file_is_read_and_the_environment_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "agentflow.toml").write_text(CAPS)
    settings = load_settings()
    assert settings.http_private_hosts == ("10.0.0.0/8",)
    assert not settings.is_redacting
    assert settings.budgets.project["ops"].tokens == 1_000_000
    assert settings.budgets.timezone == "Europe/Berlin"

    monkeypatch.setenv("AGENTFLOW_HTTP_PRIVATE_HOSTS", "192.168.1.7:8080, printer")
    monkeypatch.setenv("AGENTFLOW_REDACT", "true")
    settings = load_settings()
    assert settings.http_private_hosts == ("192.168.1.7:8080", "printer")
    assert settings.is_redacting


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("[budget]\ninstallation = {tokens = 5}", "keys that are not known: budget (did you mean 'budgets'?)"),
        (
            "[budgets.instalation]\ntokens = 5",
            "budgets.instalation in {home}/agentflow.toml: is not known: did you mean",
        ),
        ("[budgets.project.ops]\ntokns = 5", "budgets.project.ops.tokns in {home}/agentflow.toml: is not known"),
        ("budgets = 5", "budgets in {home}/agentflow.toml: takes a table"),
        ("lease_seconds 5", "The configuration file {home}/agentflow.toml is no TOML: Expected '='"),
    ],
)
def test_a_configuration_file_that_cannot_be_meant_is_an_error_and_no_missing_cap(
    written: str, words: str, home: Path
) -> None:
    (home / "agentflow.toml").write_text(written)

    assert words.format(home=home) in refused()


def test_a_configuration_file_that_cannot_be_read_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "agentflow.toml").write_bytes(b"\xff\xfe")
    assert "is no UTF-8 text" in refused()

    monkeypatch.setenv("AGENTFLOW_CONFIG", str(home / "elsewhere.toml"))
    assert "elsewhere.toml, which is no file" in refused()


def test_a_trusted_proxy_is_an_address_or_a_network(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_API_TRUSTED_PROXIES", "10.0.0.2, 192.168.0.0/16")
    assert load_settings().api_trusted_proxies == ("10.0.0.2", "192.168.0.0/16")

    monkeypatch.setenv("AGENTFLOW_API_TRUSTED_PROXIES", "10.0.0.2, *")
    assert "AGENTFLOW_API_TRUSTED_PROXIES: '*' is no address and no network" in refused()


@pytest.mark.parametrize(
    "written", ["10.0.0.0/8, [::1]:8000 ,printer:80,", '["10.0.0.0/8", "[::1]:8000", "printer:80"]']
)
@pytest.mark.parametrize("name", ["http_private_hosts", "api_hosts"])
def test_a_list_is_written_with_commas_or_as_json(
    name: str, written: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AGENTFLOW_{name.upper()}", written)
    assert getattr(load_settings(), name) == ("10.0.0.0/8", "[::1]:8000", "printer:80")

    monkeypatch.setenv(f"AGENTFLOW_{name.upper()}", "[10, 8]")
    assert f"AGENTFLOW_{name.upper()} (0): takes text" in refused()


def test_a_private_host_that_is_none_is_told_before_any_server_is_started(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTFLOW_HTTP_PRIVATE_HOSTS", "http://localhost")

    told = complain(capsys, "up", "--detach", code=2)

    assert "AGENTFLOW_HTTP_PRIVATE_HOSTS: 'http://localhost' is no host" in told
    assert list(home.iterdir()) == []


def test_an_empty_variable_is_not_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", "")
    monkeypatch.setenv("AGENTFLOW_ACTOR", "")

    assert load_settings().database_url is None
    assert load_settings().actor


def test_a_setting_that_there_is_not_is_no_setting_of_a_client(home: Path) -> None:
    with pytest.raises(UsageError, match=r"projct .did you mean 'project'"):
        load_settings(projct="ops")


def test_no_error_of_settings_holds_what_was_given(home: Path) -> None:
    with pytest.raises(ValueError, match="database_url") as refusal:
        Settings(database_url=SecretStr("mysql://someone:sesame@db/x"), redis_url=SecretStr("redis://cache"))

    assert "sesame" not in str(refusal.value)


def test_a_variable_that_nothing_reads_is_named_with_the_one_that_was_meant(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "LEESE_SECONDS",
        "FROBNICATE",
        "SECRET_TOKEN",
        "TEST_POSTGRES_BIN",
        "REDACT",
        "AUDIT_KEY_FILE",
        "CONFIG",
    ):
        monkeypatch.setenv(f"AGENTFLOW_{name}", "x")
    monkeypatch.setenv("AGENTFLOW_EMPTY", "")

    given = given_variables()

    assert given.unknown == ("AGENTFLOW_FROBNICATE", "AGENTFLOW_LEESE_SECONDS (did you mean AGENTFLOW_LEASE_SECONDS?)")
    assert given.known == ("AGENTFLOW_AUDIT_KEY_FILE", "AGENTFLOW_CONFIG", "AGENTFLOW_HOME", "AGENTFLOW_REDACT")


def test_every_variable_that_the_code_names_is_known(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(agentflow.__file__).parent
    named = {each for path in package.rglob("*.py") for each in NAMED.findall(path.read_text(encoding="utf-8"))}
    for name in named:
        monkeypatch.setenv(name, "x")

    assert len(named) > 20
    assert given_variables().unknown == ()
