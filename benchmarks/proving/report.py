"""What a chaos run tells: tables in Markdown, to paste, or the same as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from proving.faults import FAULTS
from proving.losses import Cost, median_and_most


@dataclass
class Report:
    """One run of the program."""

    seed: int
    minutes: float
    lease_seconds: float
    load_average: float
    counts: dict[str, Any] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def has_held(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Return everything, each fault by itself."""
        told = {name: value for name, value in vars(self).items() if name != "costs"}
        return {**told, "has_held": self.has_held, "faults": [asdict(cost) for cost in self.costs]}

    def as_markdown(self) -> str:
        """Return the tables."""
        lines = [f"### Seed {self.seed}: {self.minutes:g} min, {len(self.costs)} faults, {self._verdict()}", ""]
        lines += [self._machine(), "", "| | |", "|---|---|"]
        lines += [f"| {name} | {_shown(value)} |" for name, value in self.counts.items()]
        lines += ["", *self._table(), "", *(f"- {line}" for line in self.checked)]
        if self.findings:
            lines += ["", "**Violations**", "", *(f"- {finding}" for finding in self.findings)]
        return "\n".join(lines)

    def _verdict(self) -> str:
        return "all held" if self.has_held else f"{len(self.findings)} violations"

    def _machine(self) -> str:
        return (
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on, "
            f"lease {self.lease_seconds:g} s, load {self.load_average:.1f} at the start."
        )

    def _table(self) -> list[str]:
        head = "| fault | times | lasted s | next start s, median / most | attempts hit | went on s, median / most |"
        lines = [head, "|---|--:|--:|--:|--:|--:|"]
        for kind, fault in FAULTS.items():
            of_kind = [cost for cost in self.costs if cost.made.kind == kind]
            if of_kind:
                lines.append(f"| {fault.what} | {len(of_kind)} | {_figures(of_kind)} |")
        return [*lines, f"| **all** | {len(self.costs)} | {_figures(self.costs)} |"] if self.costs else lines


def _figures(costs: Sequence[Cost]) -> str:
    lasted = statistics.median(cost.made.until - cost.made.at for cost in costs)
    return (
        f"{lasted:.1f} | {median_and_most([cost.next_start for cost in costs])} | {sum(cost.hit for cost in costs)} | "
        f"{median_and_most([cost.went_on for cost in costs])}"
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items()) or "none"
    return str(value)
