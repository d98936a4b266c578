"""Blame: whose loss it is when a worker is lost with several attempts on it.

An attempt that was lost alone is to blame. Of several that were lost together nobody is, at first; a step to which that
happened twice is a suspect, and suspects run one at a time, so that the next loss tells (docs/decisions/0017).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

SUSPECTED_FROM = 2
"""After so many losses in company a step is a suspect."""
MAX_JOINT = 10
"""After so many a step is blamed in any company: it may never have stood alone."""


@dataclass(frozen=True, slots=True)
class Company:
    """Who was lost with an attempt: ``others`` on the same worker at the same time, of which ``suspects`` ran as such.

    ``is_stopping``: the worker was being stopped when it was lost.
    """

    others: int = 0
    suspects: int = 0
    is_stopping: bool = False


ALONE = Company()


class Blame(Enum):
    """What a loss counts as for its step."""

    STEP = auto()
    COMPANY = auto()
    NOBODY = auto()


def is_suspect(joint_losses: int) -> bool:
    """Whether a step that was lost so often in company runs as a suspect."""
    return joint_losses >= SUSPECTED_FROM


def blame(company: Company, joint_losses: int) -> Blame:
    """Decide what a loss counts as; ``joint_losses`` are those of the step before this one."""
    if company.is_stopping:
        return Blame.NOBODY
    if not company.others or joint_losses >= MAX_JOINT:
        return Blame.STEP
    if is_suspect(joint_losses):
        return Blame.COMPANY if company.suspects else Blame.STEP
    return Blame.NOBODY if company.suspects else Blame.COMPANY
