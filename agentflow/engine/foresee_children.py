"""Foresee children: which plans the child runs of a run would run, and with which vars, before anything of it exists.

A plan in a file came along with its parent; one that is stored has to be asked for, which is handed in. What neither
has is not known. Touches no server itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from agentflow.domain.action import RunAction
from agentflow.domain.error import ContentError, TemplateError
from agentflow.domain.expression import references, render
from agentflow.domain.plan import Plan
from agentflow.domain.run_document import is_file, stored_name, templates_in
from agentflow.engine.child_plans import ReadDocument, documents_in

if TYPE_CHECKING:
    from agentflow.engine.load_plan import LoadedPlan

OpenStored = Callable[[str, int | None], "LoadedPlan | None"]
"""Opens a stored plan by name and version; None where it cannot be asked for or is not there."""


@dataclass(frozen=True, slots=True)
class KnownPlan:
    """A plan with the texts that it and its children bring along, by SHA-256."""

    plan: Plan
    read: ReadDocument

    @classmethod
    def of(cls, loaded: LoadedPlan) -> KnownPlan:
        """The plan as it was loaded."""
        return cls(loaded.plan, documents_in({**loaded.brought, **loaded.content}))

    def text(self, sha256: str) -> bytes | None:
        """A text by its hash; None where it is not at hand."""
        try:
            return self.read(sha256)
        except (ContentError, OSError):
            return None


@dataclass
class Children:
    """The child plans that are at hand; each stored one is asked for once."""

    open_stored: OpenStored | None = None
    _opened: dict[str, KnownPlan | None] = field(default_factory=dict)

    def find(self, parent: KnownPlan, action: RunAction) -> KnownPlan | None:
        """Return the plan that a child run of ``parent`` would run; None where nobody here knows it."""
        if action.fingerprint is not None:
            document = parent.text(action.fingerprint)
            return None if document is None else KnownPlan(Plan.from_stored(document), parent.read)
        if action.plan not in self._opened:
            self._opened[action.plan] = self._open(action.plan)
        return self._opened[action.plan]

    def _open(self, reference: str) -> KnownPlan | None:
        named = None if is_file(reference) else stored_name(reference)
        loaded = None if named is None or self.open_stored is None else self.open_stored(*named)
        return None if loaded is None else KnownPlan.of(loaded)


def foresee_vars(plan: Plan, given: Mapping[str, JsonValue], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the vars of a child run as far as the vars ``above`` decide them; what steps leave is left out."""
    known = {name: spec.default for name, spec in plan.vars.items() if not spec.required}
    for name, value in given.items():
        known.pop(name, None)
        try:
            if all(each.root == "vars" for text in templates_in(value) for each in references(text)):
                known[name] = _rendered(value, {"vars": above})
        except TemplateError:
            continue  # it reads a var that is itself not known
    return known


def _rendered(value: JsonValue, values: Mapping[str, Any]) -> Any:
    match value:
        case str():
            return render(value, values)
        case list():
            return [_rendered(item, values) for item in value]
        case dict():
            return {key: _rendered(item, values) for key, item in value.items()}
        case _:
            return value
