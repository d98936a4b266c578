"""What an examination finds: one Check for each question, with advice where there is a problem.

Owns the shape of a finding and how a question's answer becomes one. The questions are doctor.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agentflow.domain.error import AgentflowError, ServersUnreachable


class Status(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``advice`` says what to do about it; ``is_unreachable`` marks a server that is away."""

    name: str
    status: Status
    detail: str
    advice: str = ""
    is_unreachable: bool = False

    def as_json(self) -> dict[str, Any]:
        """The finding as `doctor --json` prints it."""
        return {"name": self.name, "status": self.status.value, "detail": self.detail, "advice": self.advice or None}


class Problem(Exception):
    """The answer is not as it has to be; the text says how it is."""

    def __init__(self, detail: str, advice: str, *, is_unreachable: bool = False) -> None:
        super().__init__(detail)
        self.advice = advice
        self.is_unreachable = is_unreachable


class Concern(Exception):
    """All works, and somebody should look at something; the text says at what."""

    def __init__(self, detail: str, advice: str) -> None:
        super().__init__(detail)
        self.advice = advice


class Skipped(Exception):
    """The question cannot be asked; the text says what is missing."""


def find(name: str, question: Callable[[], str]) -> Check:
    """Ask ``question``: its answer is the detail of a finding that is ok."""
    try:
        return Check(name, Status.OK, question())
    except Skipped as why:
        return Check(name, Status.SKIPPED, str(why))
    except Problem as problem:
        return Check(name, Status.PROBLEM, str(problem), problem.advice, problem.is_unreachable)
    except Concern as concern:
        return Check(name, Status.WARNING, str(concern), concern.advice)
    except AgentflowError as error:  # their messages say what to do themselves
        return Check(name, Status.PROBLEM, str(error), is_unreachable=isinstance(error, ServersUnreachable))
