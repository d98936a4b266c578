"""Pauses: who let a run rest, or the whole installation, why, since when and how hard; and what two of them make.

Owns the stored form and the public reason. That nothing of a paused run starts is kept by the guards in storage/sql.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from agentflow.domain.reason import Reason, ReasonCode


class PauseScope(StrEnum):
    """What was paused: the run itself, the run above it, or everything."""

    RUN = "run"
    PARENT = "parent"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause as it stands. Hard: what ran was told to end and to give its step back."""

    actor: str
    why: str | None
    at: datetime
    is_hard: bool
    scope: PauseScope

    def as_json(self) -> dict[str, Any]:
        """The stored form."""
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {"actor": self.actor, "why": self.why, "at": at, "is_hard": self.is_hard, "scope": self.scope.value}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Pause:
        """Read the stored form."""
        at, scope = datetime.fromisoformat(stored["at"]), PauseScope(stored["scope"])
        return cls(stored["actor"], stored["why"], at, stored["is_hard"], scope)

    @property
    def reason(self) -> Reason:
        """Why a run that is so paused rests: ``{actor, why, at, scope}``."""
        return Reason(ReasonCode.PAUSED, {key: value for key, value in self.as_json().items() if key != "is_hard"})


_OWN = {PauseScope.MAINTENANCE: 0, PauseScope.PARENT: 1, PauseScope.RUN: 2}
"""How much a pause is a run's own: the more it is, the fewer others lift it."""


def paused_by(standing: Pause | None, asked: Pause) -> Pause:
    """Return the pause that stands after ``asked``: one that stood keeps who, why and since when.

    It is hardened if ``asked`` is hard. A run that a maintenance paused and a person pauses, itself or with the run
    above it, is that person's from then on, so that the end of the maintenance leaves it. One that was paused with the
    run above it, and that a person pauses by itself, rests on when the run above goes on.
    """
    if standing is None:
        return asked
    is_hard = standing.is_hard or asked.is_hard
    if _OWN[asked.scope] > _OWN[standing.scope]:
        return replace(asked, at=standing.at, is_hard=is_hard)
    return replace(standing, is_hard=is_hard)
