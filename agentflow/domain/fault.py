"""One fault of a plan: what is wrong, where, and what to do. Owns the value; finding faults is plan_check's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault found in a plan document.

    ``path`` leads from the document's root to the value (keys and indexes); ``line`` and ``column`` count from 1.
    """

    code: str
    message: str
    path: tuple[str | int, ...] = ()
    step: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None

    @property
    def place(self) -> str:
        """Where the fault stands, as an editor can open it: ``plan.yaml:12`` or a dotted path."""
        if self.file is not None and self.line is not None:
            return f"{self.file}:{self.line}"
        return ".".join(str(part) for part in self.path) or (self.file or "plan")
