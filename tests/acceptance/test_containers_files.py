"""The files for containers: of the right form, closed to the network, and in agreement with the settings they name."""

from __future__ import annotations

import fnmatch
import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agentflow.domain.duration import parse_duration
from agentflow.settings import Settings, load_settings
from agentflow.stack.supervision import drain_patience
from tests.acceptance.compose import read_compose
from tests.workers import REPOSITORY

COMPOSE = read_compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: told for name, told in SERVICES.items() if told["image"].startswith("agentflow:")}
KEEPERS = OURS.keys() - {"flower"}
"""Those that see content and audit; Flower needs neither, and has not even their keys."""
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    _make_secrets(tmp_path / "secrets")
    return tmp_path / "secrets"


def _make_secrets(folder: Path) -> None:
    script = str(REPOSITORY / "config" / "make_secrets.sh")
    subprocess.run(["/bin/sh", script, str(folder)], check=True, capture_output=True)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def test_the_file_has_the_form_of_the_compose_specification() -> None:
    schema = json.loads((Path(__file__).parent / "compose_spec" / "compose-spec.json").read_text(encoding="utf-8"))
    checker = jsonschema.Draft7Validator(schema)
    assert [f"{error.json_path}: {error.message}" for error in checker.iter_errors(COMPOSE)] == []
    assert list(checker.iter_errors({"services": {"worker": {"comand": "agentflow worker"}}})), "it does find faults"


@each_service
def test_a_service_may_do_no_more_than_it_must(name: str) -> None:
    told = SERVICES[name]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert told["init"] is True
    assert not {"privileged", "cap_add", "network_mode", "pid"} & told.keys()
    assert told.get("user", "of the Dockerfile") != "root"


def test_only_the_api_and_flower_are_published_and_only_on_this_machine() -> None:
    published = {name: told["ports"] for name, told in SERVICES.items() if "ports" in told}
    assert set(published) == {"api", "flower"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert COMPOSE["networks"]["servers"]["internal"] is True
    assert all(SERVICES[server]["networks"] == ["servers"] for server in ("postgres", "valkey"))


@each_service
def test_a_service_that_runs_on_has_a_health_check_and_starts_again(name: str) -> None:
    told = SERVICES[name]
    assert ("healthcheck" in told) == (told["restart"] == "unless-stopped") == (name != "migrate")
    for other, how in told.get("depends_on", {}).items():
        is_lasting = SERVICES[other]["restart"] != "no"
        assert how["condition"] == ("service_healthy" if is_lasting else "service_completed_successfully")


@pytest.mark.parametrize("name", sorted(KEEPERS))
def test_a_service_waits_for_the_migration_and_shares_the_content(name: str) -> None:
    told = OURS[name]
    assert set(told["depends_on"]) == ({"postgres", "valkey"} if name == "migrate" else {"migrate"})
    mounted: dict[str, str] = dict(volume.split(":") for volume in told["volumes"])
    assert mounted["content"] == told["environment"]["AGENTFLOW_CONTENT_DIR"]
    assert told["environment"]["AGENTFLOW_CHECKPOINT_FILE"].startswith(f"{mounted['audit']}/")
    assert {"content", "audit"} <= COMPOSE["volumes"].keys()


@each_of_ours
def test_every_variable_is_a_setting(name: str) -> None:
    for variable in OURS[name]["environment"]:
        if variable.startswith("AGENTFLOW_") and variable != "AGENTFLOW_CONFIG":
            setting = variable.removeprefix("AGENTFLOW_").removesuffix("_FILE").lower()
            assert {setting, f"{setting}_file"} & Settings.model_fields.keys(), variable


@each_service
def test_every_secret_that_a_service_reads_is_handed_to_it(name: str) -> None:
    told = SERVICES[name]
    read = {found for text in _texts(told) for found in re.findall(r"/run/secrets/(\w+)", text)}
    assert read == set(told["secrets"])
    assert read <= COMPOSE["secrets"].keys()


def test_no_secret_stands_in_the_file() -> None:
    values = [told["environment"] for told in SERVICES.values() if "environment" in told]
    named = {key: value for each in values for key, value in each.items() if re.search("PASS|KEY|SECRET|URL", key)}
    assert all(value == "" or value.startswith("/run/secrets/") for value in named.values()), named


def test_the_script_makes_every_secret_once(secrets: Path) -> None:
    made = {path.name: path.read_text() for path in secrets.iterdir()}
    assert {f"./secrets/{name}" for name in made} == {told["file"] for told in COMPOSE["secrets"].values()}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700, "only its owner comes in"
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}, (
        "every container's account reads"
    )
    assert len({text.split()[-1] for text in made.values()}) == len(made)
    (secrets / "audit_key").unlink()
    _make_secrets(secrets)
    again = {path.name: path.read_text() for path in secrets.iterdir()}
    assert again.pop("audit_key") != made.pop("audit_key")
    assert again == made


@each_of_ours
def test_the_settings_can_be_read_from_the_secrets(name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in OURS[name]["environment"].items():
        if variable != "HOME":
            placed = value.replace("/run/secrets", str(secrets)).replace("/etc/agentflow", str(REPOSITORY / "config"))
            monkeypatch.setenv(variable, placed)
    settings = load_settings()
    password = (secrets / "postgres_password").read_text().strip()
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert f":{password}@postgres:" in settings.database_url.get_secret_value()
    keyword, valkey_password = (secrets / "valkey_conf").read_text().split()
    assert keyword == "requirepass"
    assert settings.redis_url.get_secret_value() == f"redis://:{valkey_password}@valkey:6379/0"
    assert (settings.audit_key is not None) == (settings.checkpoint_key is not None) == (name in KEEPERS)


def test_a_stopped_worker_has_the_time_that_it_gives_its_steps() -> None:
    for name in ("worker", "worker-models"):
        assert parse_duration(SERVICES[name]["stop_grace_period"]) > drain_patience(Settings())


def test_images_are_pinned_and_ours_runs_as_nobody_in_particular() -> None:
    bases = [line.split()[1] for line in DOCKERFILE if line.startswith("FROM ")]
    images = [told["image"] for told in SERVICES.values() if told["image"] != "agentflow:local"]
    assert all(re.fullmatch(r"[\w/.]+:\d[\w.-]*", image) for image in [*bases, *images])
    last_stage = DOCKERFILE[max(i for i, line in enumerate(DOCKERFILE) if line.startswith("FROM ")) :]
    (user,) = [line.split()[1] for line in last_stage if line.startswith("USER ")]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "a number, as engines that refuse root cannot resolve names"
    assert not [line for line in DOCKERFILE if line.startswith(("HEALTHCHECK", "ADD"))], "compose.yaml has the checks"


def test_what_is_copied_is_there_and_nothing_else_is_sent_to_the_builder() -> None:
    sent = [
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    ]
    copied = [
        word for line in DOCKERFILE if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert sorted(sent) == sorted(copied)
    assert all((REPOSITORY / name).exists() for name in copied)
    assert not [name for name in ("secrets", ".git", ".env") if any(fnmatch.fnmatch(name, each) for each in sent)]


def test_the_linter_has_nothing_to_say_about_the_dockerfile() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([str(hadolint), str(REPOSITORY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
