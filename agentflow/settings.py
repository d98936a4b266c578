"""Settings: the only reader of the environment (prefix AGENTFLOW_, see docs/reference for the list).

Owns names, defaults and bounds. Secrets may come as NAME or as NAME_FILE (a path). Does not look for a running
embedded stack; runtime.py does.
"""

from __future__ import annotations

import getpass
import os
import socket
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agentflow.domain.error import ConfigurationError

_FILE_FORMS = ("database_url", "redis_url", "audit_key")
SECRET_PREFIX = "AGENTFLOW_SECRET_"  # noqa: S105 - a prefix of names


def default_home() -> Path:
    """Where agentflow keeps its data by default: /var/lib/agentflow for root, the XDG data home for others."""
    if os.geteuid() == 0:
        return Path("/var/lib/agentflow")
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data_home) / "agentflow"


def _default_actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a passwd entry
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Settings(BaseSettings):
    """Everything that can be set from outside; durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix="AGENTFLOW_", extra="ignore", frozen=True)

    home: Path = Field(default_factory=default_home)
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    audit_key: SecretStr | None = None
    content_dir: Path | None = None
    actor: str = Field(default_factory=_default_actor)
    project: str = "default"
    lease_seconds: Annotated[float, Field(ge=1, le=24)] = 20
    drain_seconds: Annotated[float, Field(ge=0)] = 20
    kill_grace_seconds: Annotated[float, Field(ge=0, le=60)] = 5
    output_limit_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    chain_limit: Annotated[int, Field(ge=1, le=16)] = 16
    doorbells_per_queue: Annotated[int, Field(ge=1)] = 1000
    lost_doorbell_seconds: Annotated[float, Field(gt=0)] = 3
    redis_prefix: str = ""
    log_format: str = "console"
    log_level: str = "info"
    is_redacting: Annotated[bool, Field(validation_alias="AGENTFLOW_REDACT")] = True
    worker_events: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_file_forms(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in _FILE_FORMS:
            path = os.environ.get(f"AGENTFLOW_{name.upper()}_FILE")
            if path and not values.get(name):
                values[name] = _read_secret_file(f"AGENTFLOW_{name.upper()}_FILE", Path(path))
        return values

    @model_validator(mode="after")
    def _servers_come_in_pairs(self) -> Self:
        if (self.database_url is None) != (self.redis_url is None):
            missing = "AGENTFLOW_REDIS_URL" if self.redis_url is None else "AGENTFLOW_DATABASE_URL"
            raise ValueError(f"AGENTFLOW_DATABASE_URL and AGENTFLOW_REDIS_URL go together; {missing} is not set")
        return self

    @cached_property
    def heartbeat_seconds(self) -> float:
        """How often a lease is extended: a quarter of its length."""
        return self.lease_seconds / 4

    @property
    def has_own_servers(self) -> bool:
        """Whether the environment names the servers."""
        return self.database_url is not None

    def content_root(self) -> Path:
        """The shared directory of the content store."""
        return self.content_dir or self.home / "content"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; ConfigurationError names every variable that cannot be used."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = "; ".join(
            f"{'AGENTFLOW_' + str(fault['loc'][0]).upper() if fault['loc'] else 'settings'}: {fault['msg']}"
            for fault in error.errors(include_input=False)
        )
        raise ConfigurationError(f"The settings cannot be used: {problems}") from None


def secret_from_environment(name: str) -> str | None:
    """Return the secret ``name`` from AGENTFLOW_SECRET_<name>, its _FILE form, or the variable ``name`` itself."""
    for variable in (SECRET_PREFIX + name, name):
        value = os.environ.get(variable)
        if value is not None:
            return value.strip()
        path = os.environ.get(f"{variable}_FILE")
        if path:
            return _read_secret_file(f"{variable}_FILE", Path(path))
    return None


def _read_secret_file(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{variable} names {path}, which cannot be read: {error.strerror}") from error
