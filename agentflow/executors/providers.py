"""The providers of models that this process can call, each with its credential: built in, or named in a file.

Owns provider_credentials.yaml, its partial loading and what ``doctor`` shows of it. Where a key lies is keystore's;
calling is the llm executor's. A key is in no error, no repr and no status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from agentflow.domain.call import CallProblem
from agentflow.domain.setting_fault import words_of
from agentflow.executors.keystore import Auth, KeyProblem, find_key
from agentflow.settings import Settings, variable_from_environment

FILE_NAME = "provider_credentials.yaml"


class ProviderKind(StrEnum):
    """How a provider is spoken to and what it costs."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OPENAI_COMPATIBLE = "openai-compatible"
    OLLAMA = "ollama"
    OFFLINE = "offline"
    """The small model that runs beside the worker."""
    HTTP = "http"
    """A service that http steps call; no model."""


BUILT_IN_KINDS: Mapping[str, ProviderKind] = {
    "openai": ProviderKind.OPENAI,
    "anthropic": ProviderKind.ANTHROPIC,
    "ollama": ProviderKind.OLLAMA,
    "offline": ProviderKind.OFFLINE,
}
"""The ids that need no file."""
_ADDRESSES: Mapping[ProviderKind, str] = {
    ProviderKind.OPENAI: "https://api.openai.com/v1",
    ProviderKind.ANTHROPIC: "https://api.anthropic.com",
    ProviderKind.OLLAMA: "http://127.0.0.1:11434/v1",
}
_OPENAI = "https://api.openai.com/"
_NEED_A_KEY = (ProviderKind.OPENAI, ProviderKind.ANTHROPIC, ProviderKind.HTTP)
_NEED_AN_ADDRESS = (ProviderKind.OPENAI_COMPATIBLE, ProviderKind.HTTP)


@dataclass(frozen=True, slots=True)
class Credential:
    """One provider, ready to be called. ``base_url`` is None for the offline model, which has none before it runs."""

    id: str
    kind: ProviderKind
    base_url: str | None
    key: SecretStr | None = None
    default_model: str | None = None

    def covers(self, scheme: str, host: str, port: int, path: str) -> bool:
        """Whether its key may be sent to an address: the same server, at or below its path."""
        if self.base_url is None:
            return False
        own = urlsplit(self.base_url)
        own_port = own.port or (443 if own.scheme == "https" else 80)
        is_below = path == own.path or path.startswith(f"{own.path}/")
        return (own.scheme, (own.hostname or "").lower(), own_port) == (scheme, host, port) and is_below

    @property
    def is_openais_own(self) -> bool:
        """Whether OpenAI itself is called, and not something else in its way at OPENAI_BASE_URL."""
        return self.kind is ProviderKind.OPENAI and f"{self.base_url}/".startswith(_OPENAI)

    @property
    def endpoint(self) -> str:
        """Who is called, as the circuit breaker names it."""
        return f"{self.id}@{urlsplit(self.base_url).netloc if self.base_url else 'local'}"


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """What may be known of a credential by everybody."""

    credential_id: str
    provider: str
    source: str
    loaded: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """All credentials of this process, those that could not be loaded among the statuses only."""

    loaded: Mapping[str, Credential]
    statuses: tuple[CredentialStatus, ...]
    file_problem: str | None = None
    """Why the whole file says nothing."""

    def find(self, credential_id: str) -> Credential | CallProblem:
        """Return a credential, or why a call that names it cannot be made."""
        if credential_id in self.loaded:
            return self.loaded[credential_id]
        is_known = any(status.credential_id == credential_id for status in self.statuses)
        return CallProblem.NO_CREDENTIAL if is_known else CallProblem.UNKNOWN_PROVIDER

    @property
    def kinds(self) -> Mapping[str, ProviderKind]:
        """How each id that could be read is spoken to, for its price."""
        return {status.credential_id: ProviderKind(status.provider) for status in self.statuses if status.provider}


class _AuthEntry(BaseModel):
    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    type: Literal["api_key"] = "api_key"
    source: str = Field(min_length=1)
    env_var: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    file_path: Path | None = None
    file_key: str | None = None

    def auth(self, folder: Path) -> Auth:
        path = self.file_path and folder / self.file_path.expanduser()
        return Auth(self.source, self.env_var, path, self.file_key, self.model_extra or {})


class _ConfigEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    base_url: str | None = None
    default_model: str | None = None

    @field_validator("base_url")
    @classmethod
    def _is_plain(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            is_plain = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_plain = False
        if not is_plain or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("must be an http or https address without user, password, query and fragment")
        return url.rstrip("/")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    provider: ProviderKind
    auth: _AuthEntry | None = None
    config: _ConfigEntry = _ConfigEntry()


@dataclass(slots=True)
class _Loading:
    """What has been found so far."""

    loaded: dict[str, Credential] = field(default_factory=dict)
    statuses: dict[str, CredentialStatus] = field(default_factory=dict)

    def refuse(self, credential_id: str, error: str, provider: str = "", source: str = "") -> None:
        self.statuses[credential_id] = CredentialStatus(credential_id, provider, source, loaded=False, error=error)

    def add(self, entry: _Entry, folder: Path) -> None:
        source = entry.auth.source if entry.auth else "none"
        found = _credential(entry, folder)
        if isinstance(found, str):
            self.refuse(entry.id, found, entry.provider.value, source)
        else:
            self.loaded[entry.id] = found
            self.statuses[entry.id] = CredentialStatus(entry.id, entry.provider.value, source, loaded=True)

    def add_built_in(self, entry: _Entry) -> None:
        """Add an entry that is written nowhere: its variable is named, since nobody can have put a key in its place."""
        self.add(entry, Path())
        if entry.auth is not None and self.statuses[entry.id].error == KeyProblem.VARIABLE_NOT_SET.sentence:
            self.refuse(entry.id, f"{entry.auth.env_var} is not set, or empty", entry.provider.value, entry.auth.source)


def load_credentials(settings: Settings) -> Credentials:
    """Read the file of credentials, if there is one, and the built-in ids; one bad entry harms no other."""
    path = settings.provider_credentials or settings.home / FILE_NAME
    is_expected = settings.provider_credentials is not None
    entries = _read_entries(path, is_expected=is_expected)
    loading = _Loading()
    if not isinstance(entries, str):
        for number, entry in enumerate(entries, 1):
            _add_written(loading, number, entry, path.absolute().parent)
    for built_in in _built_in():
        if built_in.id not in loading.statuses:
            loading.add_built_in(built_in)
    return Credentials(loading.loaded, tuple(loading.statuses.values()), entries if isinstance(entries, str) else None)


def _built_in() -> Iterator[_Entry]:
    openai = _AuthEntry(source="env", env_var="OPENAI_API_KEY")
    try:
        config = _ConfigEntry(base_url=variable_from_environment("OPENAI_BASE_URL"))
        yield _Entry(id="openai", provider=ProviderKind.OPENAI, auth=openai, config=config)
    except ValidationError:
        # An address that cannot be used must not become another one.
        bad = _ConfigEntry.model_construct(base_url="")
        yield _Entry.model_construct(id="openai", provider=ProviderKind.OPENAI, auth=openai, config=bad)
    anthropic = _AuthEntry(source="env", env_var="ANTHROPIC_API_KEY")
    yield _Entry(id="anthropic", provider=ProviderKind.ANTHROPIC, auth=anthropic)
    yield _Entry(id="ollama", provider=ProviderKind.OLLAMA)
    yield _Entry(id="offline", provider=ProviderKind.OFFLINE)


def _read_entries(path: Path, *, is_expected: bool) -> Sequence[Any] | str:
    import yaml

    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{path} is not there" if is_expected else ()
    except (OSError, UnicodeDecodeError):
        return f"{path} cannot be read"
    except (yaml.YAMLError, RecursionError, ValueError):  # its words quote the file
        return f"{path} is no YAML"
    if written is None:
        return ()
    return written if isinstance(written, list) else f"{path} must be a list of credentials"


def _add_written(loading: _Loading, number: int, written: Any, folder: Path) -> None:
    try:
        entry = _Entry.model_validate(written)
    except ValidationError as error:
        name = _readable_id(written) or f"entry {number}"
        loading.refuse(name if name not in loading.statuses else f"entry {number}", _faults(error))
        return
    if entry.id in loading.statuses:
        loading.refuse(f"entry {number}", "an entry above has the same id")
    else:
        loading.add(entry, folder)


def _readable_id(written: Any) -> str | None:
    """The entry's id if it is a good one; another text may be anything, also a key."""
    try:
        return _Entry(id=written["id"], provider=ProviderKind.OLLAMA).id
    except (ValidationError, TypeError, KeyError, IndexError):
        return None


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_input=False, include_url=False)
    return "; ".join(
        "there is a field that nobody knows"  # its name may be anything
        if fault["type"] == "extra_forbidden"
        else f"{'.'.join(str(part) for part in fault['loc']) or 'the entry'}: {words_of(fault)}"
        for fault in faults
    )


def _credential(entry: _Entry, folder: Path) -> Credential | str:
    base_url = entry.config.base_url if entry.config.base_url is not None else _ADDRESSES.get(entry.provider)
    if base_url == "":
        return "OPENAI_BASE_URL is no address that can be used"
    if entry.provider in _NEED_AN_ADDRESS and base_url is None:
        return f"config.base_url is needed: an {entry.provider} provider has no address of its own"
    key = find_key(entry.auth.auth(folder)) if entry.auth else None
    if isinstance(key, KeyProblem):
        return key.sentence
    if key is None and entry.provider in _NEED_A_KEY:
        return "auth is needed: this provider takes no call without a key"
    secret = None if key is None else SecretStr(key)
    return Credential(entry.id, entry.provider, base_url, secret, entry.config.default_model)
