"""Where settings come from: the environment, the configuration file, files of secrets.

Owns the home's default place, and what a variable or a file says. What the environment does not say may stand in a TOML
file (AGENTFLOW_CONFIG, else agentflow.toml in the home). Secrets may come as NAME or as NAME_FILE (a path).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agentflow.domain.error import ConfigurationError
from agentflow.domain.plan_document import OWN_PREFIX
from agentflow.domain.wording import did_you_mean

SECRET_PREFIX = "AGENTFLOW_SECRET_"  # noqa: S105 - a prefix of names


def default_home() -> Path:
    """Where agentflow keeps its data by default: /var/lib/agentflow for root, the XDG data home for others."""
    if os.geteuid() == 0:
        return Path("/var/lib/agentflow")
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data_home) / "agentflow"


def configuration_file() -> Path | None:
    """The configuration file: the one that AGENTFLOW_CONFIG names, which must be there, else the home's if it is."""
    named = os.environ.get("AGENTFLOW_CONFIG")
    if named:
        if not Path(named).is_file():
            raise ConfigurationError(
                f"AGENTFLOW_CONFIG names {named}, which is no file: make it, or unset the variable"
            )
        return Path(named)
    path = Path(os.environ.get("AGENTFLOW_HOME") or default_home()) / "agentflow.toml"
    return path if os.access(path, os.F_OK) else None


def read_configuration(known: Collection[str]) -> dict[str, Any]:
    """Read the configuration file; nothing where there is none. ConfigurationError where it cannot be read.

    A key that is not ``known`` is an error too: a misspelt cap must not be taken for none.
    """
    path = configuration_file()
    if path is None:
        return {}
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"The configuration file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"The configuration file {path} is no UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"The configuration file {path} is no TOML: {error}") from None
    unknown = [f"{key} ({did_you_mean(key, known)})" for key in written.keys() - set(known)]
    if unknown:
        raise ConfigurationError(f"The configuration file {path} has keys that are not known: {'; '.join(unknown)}")
    return written


def read_list(written: str) -> list[Any]:
    """Return the entries of a list that is written in one line: with commas between them, or as JSON."""
    try:
        found = json.loads(written) if written.lstrip().startswith("[") else None
    except ValueError:  # such as [::1]:8000
        found = None
    return found if isinstance(found, list) else [each for part in written.split(",") if (each := part.strip())]


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
            return read_secret_file(f"{variable}_FILE", Path(path))
    return None


def read_secret_file(variable: str, path: Path) -> str:
    """Read the secret that ``variable`` names by its path. Raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{variable} names {path}, which cannot be read: {error.strerror}") from error


def exports_traces() -> bool:
    """Whether OpenTelemetry's own variables, which its SDK reads, name a place for traces."""
    if (variable_from_environment("OTEL_SDK_DISABLED") or "").lower() == "true":
        return False
    if (variable_from_environment("OTEL_TRACES_EXPORTER") or "otlp") != "otlp":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return any(variable_from_environment(name) for name in endpoints)
