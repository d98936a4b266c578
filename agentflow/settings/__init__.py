"""Settings: the only reader of the environment (prefix AGENTFLOW_, see docs/reference for the list)."""

from __future__ import annotations

from agentflow.settings.fields import Settings, load_settings
from agentflow.settings.sources import (
    configuration_file,
    exports_traces,
    read_configuration,
    secret_from_environment,
    variable_from_environment,
)
from agentflow.settings.variables import Variables, given_variables

__all__ = [
    "Settings",
    "Variables",
    "configuration_file",
    "exports_traces",
    "given_variables",
    "load_settings",
    "read_configuration",
    "secret_from_environment",
    "variable_from_environment",
]
