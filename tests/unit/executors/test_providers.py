"""Credentials load one by one: a bad entry harms no other, and nothing that is shown of them holds a key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentflow.domain.call import CallProblem
from agentflow.executors.providers import Credential, Credentials, CredentialStatus, ProviderKind, load_credentials
from agentflow.settings import Settings

SECRET = "sk-the-key-itself"
Load = Callable[..., Credentials]


@pytest.fixture(autouse=True)
def _no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(*entries: Any, text: str | None = None) -> Credentials:
        path = tmp_path / "some.yaml"
        path.write_text(yaml.safe_dump(list(entries)) if text is None else text)
        return load_credentials(Settings(home=tmp_path, provider_credentials=path))

    return write_and_load


def _status(credentials: Credentials, credential_id: str) -> CredentialStatus:
    (found,) = [each for each in credentials.statuses if each.credential_id == credential_id]
    return found


def _loaded(credentials: Credentials, credential_id: str) -> Credential:
    found = credentials.find(credential_id)
    assert isinstance(found, Credential)
    return found


def _gate(credential_id: str = "gate", **fields: Any) -> dict[str, Any]:
    return {
        "id": credential_id,
        "provider": "openai-compatible",
        "config": {"base_url": "https://gate.example/v1"},
        **fields,
    }


def test_without_a_file_the_local_providers_are_there_and_the_others_lack_their_key(tmp_path: Path) -> None:
    credentials = load_credentials(Settings(home=tmp_path))

    assert {each.credential_id: each.loaded for each in credentials.statuses} == {
        "openai": False,
        "anthropic": False,
        "ollama": True,
        "offline": True,
    }
    assert credentials.find("openai") is CallProblem.NO_CREDENTIAL
    assert credentials.find("nobody") is CallProblem.UNKNOWN_PROVIDER
    assert credentials.file_problem is None


def test_the_built_in_ids_take_their_key_and_address_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.example:8443/v1/")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "another")

    credentials = load_credentials(Settings(home=tmp_path))

    openai = _loaded(credentials, "openai")
    assert openai.key is not None
    assert (openai.key.get_secret_value(), openai.endpoint) == (SECRET, "openai@proxy.example:8443")
    assert _loaded(credentials, "anthropic").endpoint == "anthropic@api.anthropic.com"
    assert _loaded(credentials, "ollama").endpoint == "ollama@127.0.0.1:11434"
    assert _loaded(credentials, "offline").endpoint == "offline@local"


def test_an_address_in_the_environment_that_cannot_be_used_never_becomes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", "proxy.example")

    assert load_credentials(Settings(home=tmp_path)).find("openai") is CallProblem.NO_CREDENTIAL


def test_a_file_in_the_home_is_read_unasked(tmp_path: Path) -> None:
    (tmp_path / "provider_credentials.yaml").write_text(yaml.safe_dump([_gate()]))

    assert _loaded(load_credentials(Settings(home=tmp_path)), "gate").kind is ProviderKind.OPENAI_COMPATIBLE


def test_one_bad_entry_harms_no_other(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATE_KEY", raising=False)
    auth = {"type": "api_key", "source": "env", "env_var": "GATE_KEY"}

    credentials = load(_gate("closed", auth=auth), _gate("open"))

    assert _status(credentials, "closed") == CredentialStatus(
        "closed", "openai-compatible", "env", False, "the variable that auth.env_var names is not set, or empty"
    )
    assert credentials.find("closed") is CallProblem.NO_CREDENTIAL
    assert _loaded(credentials, "open").key is None
    assert _status(credentials, "ollama").loaded


def test_a_written_id_stands_in_place_of_the_built_in_one(load: Load) -> None:
    credentials = load({"id": "ollama", "provider": "ollama", "config": {"base_url": "http://big.example:11434/v1"}})

    assert _loaded(credentials, "ollama").endpoint == "ollama@big.example:11434"


def test_a_bad_entry_for_a_built_in_id_does_not_bring_the_built_in_one_back(load: Load) -> None:
    credentials = load({"id": "ollama", "provider": "ollama", "config": {"base_url": "nowhere"}})

    assert credentials.find("ollama") is CallProblem.NO_CREDENTIAL


def test_a_key_file_is_found_beside_the_credentials(load: Load, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(f'{{"gate": {{"main": "{SECRET}\\n"}}}}')
    (tmp_path / "keys.json").chmod(0o600)

    credentials = load(_gate(auth={"source": "file", "file_path": "keys.json", "file_key": "gate.main"}))

    key = _loaded(credentials, "gate").key
    assert key is not None
    assert key.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (_gate(config={}), "config.base_url is needed"),
        (_gate(config={"base_url": "ftp://gate.example"}), "http or https"),
        (_gate(config={"base_url": f"https://user:{SECRET}@gate.example"}), "without user, password"),
        (_gate(config={"base_url": "https://gate.example:99999/v1"}), "http or https"),
        (_gate(provider="oracle"), "provider"),
        (_gate(provider="openai"), "auth is needed"),
        (_gate(auth={"source": "env", "env_var": SECRET}), "auth.env_var"),
        (_gate(auth={"type": "password", "source": "env"}), "auth.type"),
        (_gate(auth={"source": SECRET}), "auth.source"),
        (_gate(key=SECRET), "a field that nobody knows"),
        (_gate(**{SECRET: SECRET}), "a field that nobody knows"),
    ],
)
def test_a_bad_entry_says_what_is_wrong_and_quotes_no_value(load: Load, entry: Any, complaint: str) -> None:
    credentials = load(entry)

    status = _status(credentials, "gate")
    assert not status.loaded
    assert complaint in (status.error or "")
    assert SECRET not in repr([each for each in credentials.statuses if each.source != SECRET])


@pytest.mark.parametrize(
    "entry", ["just text", None, 7, ["a"], {"id": "a:b", "provider": "ollama"}, {"id": SECRET * 9}]
)
def test_an_entry_without_a_usable_id_is_named_by_its_place(load: Load, entry: Any) -> None:
    credentials = load(_gate(), entry)

    assert not _status(credentials, "entry 2").loaded
    assert SECRET not in repr(credentials)


def test_the_second_entry_of_an_id_is_refused(load: Load) -> None:
    credentials = load(_gate(), _gate(config={"base_url": "https://other.example"}))

    assert _status(credentials, "entry 2").error == "an entry above has the same id"
    assert _loaded(credentials, "gate").endpoint == "gate@gate.example"


@pytest.mark.parametrize("text", [f"[{SECRET}", f"key: {SECRET}", f"- {SECRET}: [", "\x00"])
def test_a_file_that_is_no_list_leaves_the_built_in_ids(load: Load, text: str) -> None:
    credentials = load(text=text)

    assert credentials.file_problem is not None
    assert SECRET not in credentials.file_problem
    assert _status(credentials, "ollama").loaded


def test_a_named_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    credentials = load_credentials(Settings(home=tmp_path, provider_credentials=tmp_path / "nothing.yaml"))

    assert "is not there" in (credentials.file_problem or "")


def test_no_repr_holds_a_key(load: Load, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "key").chmod(0o600)

    credentials = load(_gate(auth={"source": "file", "file_path": "key"}))

    assert _loaded(credentials, "gate").key is not None
    assert SECRET not in f"{credentials!r} {credentials.find('gate')!r}"


def test_the_kinds_of_all_readable_ids_are_known_for_their_prices(load: Load) -> None:
    kinds = load(_gate(), _gate("broken", provider="oracle")).kinds

    assert kinds["gate"] is ProviderKind.OPENAI_COMPATIBLE
    assert kinds["openai"] is ProviderKind.OPENAI
    assert "broken" not in kinds


def test_what_is_built_in_names_the_variable_that_is_not_set(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    assert _status(load(), "openai") == CredentialStatus(
        "openai", "openai", "env", False, "OPENAI_API_KEY is not set, or empty"
    )
