"""What a gate finds by itself when it opens: the files that steps left, and how named checks ended.

Owns what is found, missing or blocked, and what an automatic gate makes of it. Names, sizes, hashes and states only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from agentflow.domain.gate import CheckMode, GateTerms, Verdict
from agentflow.domain.ids import StepKey
from agentflow.domain.state import StepState

MOST_NAMED = 100
"""How many files the facts of a gate name; all are counted."""


@dataclass(frozen=True, slots=True)
class LeftFile:
    """A file that a step's last attempt left."""

    step: StepKey
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How a check ended, and what that means to the gate."""

    step: StepKey
    mode: CheckMode
    state: StepState

    @property
    def is_passed(self) -> bool:
        """Whether it succeeded."""
        return self.state is StepState.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found. ``missing`` are the globs that match no file with anything in it."""

    found: tuple[LeftFile, ...] = ()
    missing: tuple[tuple[StepKey, str], ...] = ()
    checks: tuple[CheckResult, ...] = ()
    patterns: int = 0
    tally: Mapping[str, int] = field(default_factory=dict)
    """How many steps of the run were in which state."""

    @property
    def artifacts(self) -> Literal["pass", "partial", "fail"] | None:
        """Nothing is missing, some of it, or nothing is found at all; None where nothing was asked for."""
        if not self.patterns:
            return None
        if not self.missing:
            return "pass"
        return "partial" if self.found else "fail"

    @property
    def blocked(self) -> tuple[StepKey, ...]:
        """The checks that reject the gate."""
        return self._failed(CheckMode.BLOCK)

    @property
    def warned(self) -> tuple[StepKey, ...]:
        """The checks that the deciders are told of."""
        return self._failed(CheckMode.WARN)

    def _failed(self, mode: CheckMode) -> tuple[StepKey, ...]:
        return tuple(check.step for check in self.checks if check.mode is mode and not check.is_passed)

    def as_json(self) -> dict[str, Any]:
        """The findings as the gate's row keeps them and surfaces show them."""
        told: dict[str, Any] = {"steps": dict(self.tally)}
        if self.patterns:
            files = [{"step": each.step, "name": each.name, "bytes": each.bytes, "sha256": each.sha256}
                     for each in self.found[:MOST_NAMED]]  # fmt: skip
            told["artifacts"] = {
                "status": self.artifacts,
                "found": len(self.found),
                "files": files,
                "missing": [{"step": step, "pattern": pattern} for step, pattern in self.missing],
            }
        if self.checks:
            told["checks"] = [
                {"step": each.step, "mode": each.mode.value, "state": each.state.value, "is_passed": each.is_passed}
                for each in self.checks
            ]
        return told


def find(
    terms: GateTerms,
    files: Mapping[StepKey, Sequence[LeftFile]],
    states: Mapping[StepKey, StepState],
    tally: Mapping[str, int],
) -> Findings:
    """Compare what was left with what the terms ask for; an empty file counts as none."""
    found: dict[tuple[StepKey, str], LeftFile] = {}
    missing = []
    for step, patterns in terms.artifacts.items():
        for pattern in patterns:
            fits = [each for each in files.get(step, ()) if each.bytes and fnmatchcase(each.name, pattern)]
            found |= {(step, each.name): each for each in fits}
            if not fits:
                missing.append((step, pattern))
    checks = tuple(
        CheckResult(step, mode, states[step]) for step, mode in terms.checks.items() if mode is not CheckMode.SKIP
    )
    asked = sum(len(patterns) for patterns in terms.artifacts.values())
    return Findings(tuple(found.values()), tuple(missing), checks, asked, tally)


def own_verdict(terms: GateTerms, findings: Findings) -> Verdict | None:
    """What the gate decides without anybody; None where it waits for people.

    A blocked check rejects any gate. An automatic one is also rejected when none of its files is there; with some of
    them it is approved, as the founding engine went on with a partial validation.
    """
    if findings.blocked:
        return Verdict.REJECT
    if not terms.is_automatic:
        return None
    return Verdict.REJECT if findings.artifacts == "fail" else Verdict.APPROVE
