"""Which variables of agentflow's prefix are set, and which of them nothing reads: a misspelt one changes nothing.

Owns the names that are known beside the settings. Values are not looked at but for being empty.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from agentflow.domain.plan_document import OWN_PREFIX
from agentflow.domain.wording import nearest, shorten
from agentflow.settings.fields import FILE_FORMS, Settings
from agentflow.settings.sources import SECRET_PREFIX

_FOR_OTHERS = (SECRET_PREFIX, f"{OWN_PREFIX}TEST_")
_TOLD_TO_COMMANDS = ("RUN_ID", "STEP_ID", "ATTEMPT", "ARTIFACTS", "OUTPUT", "SUPERVISOR")
"""What a step's command is told, and so is whatever it starts."""


@dataclass(frozen=True, slots=True)
class Variables:
    """The names of variables that are set; those that are not known with what they may have been meant to be."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]


def given_variables() -> Variables:
    """Return which variables of the prefix are set in this process's environment; empty ones are not."""
    given = sorted(name for name, value in os.environ.items() if value and name.upper().startswith(OWN_PREFIX))
    known, own = _known(), [name for name in given if not name.upper().startswith(_FOR_OTHERS)]
    return Variables(
        tuple(name for name in own if name.upper() in known),
        tuple(_suggested(name, known) for name in own if name.upper() not in known),
    )


def _known() -> set[str]:
    settings = {
        str(field.validation_alias or OWN_PREFIX + name.upper()) for name, field in Settings.model_fields.items()
    }
    files = {f"{OWN_PREFIX}{name.upper()}_FILE" for name in FILE_FORMS}
    return settings | files | {f"{OWN_PREFIX}{name}" for name in ("CONFIG", *_TOLD_TO_COMMANDS)}


def _suggested(name: str, known: set[str]) -> str:
    """Compare without the prefix, by which all are alike."""
    near = nearest(name.upper().removeprefix(OWN_PREFIX), sorted(each.removeprefix(OWN_PREFIX) for each in known))
    return shorten(name) + (f" (did you mean {OWN_PREFIX}{near}?)" if near else "")
