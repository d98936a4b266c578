"""The page of the gates that wait: what each asks, of whom, and how to answer.

Owns what stands on it; ``--json`` has all.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from agentflow.cli import words
from agentflow.domain.gate_shape import GateView
from agentflow.domain.wording import listing


def gates_page(found: Sequence[GateView], *, has_answers: bool = True) -> RenderableType:
    """Return the page; with what to type to answer, unless that stands elsewhere."""
    if not found:
        return Text("No gate waits for a decision.")
    return Group(*(part for view in found for part in _parts(view, has_answers=has_answers)))


def _parts(view: GateView, *, has_answers: bool) -> Iterator[RenderableType]:
    gate = view.gate
    name = words.printable(view.step)
    head = Text.assemble((words.short_id(view.run_id), "cyan"), "  ", (name, "bold"), f"  {view.plan_name}  ")
    yield head.append(f"{gate.kind.value}, since {words.moment(gate.opened_at)} UTC", "dim")
    for line in gate_lines(view):
        yield Padding(Text(words.printable(line)), (0, 0, 0, 2), expand=False)
    for command in answers(view) if has_answers else ():
        yield Padding(Text(words.printable(command), "dim"), (0, 0, 0, 2), expand=False)


def gate_lines(view: GateView) -> Iterator[str]:
    """Yield what a decider wants to know of an open gate, a line each."""
    gate = view.gate.as_json()
    if gate["message"]:
        yield gate["message"]
    given = f" ({listing(gate['approved_by'])})" if gate["approved_by"] else ""
    who = listing(gate["approvers"]) or "anyone"
    but = "" if gate["allow_self"] else f", not {view.submitted_by}, who submitted it"
    yield f"{len(gate['approved_by'])} of {gate['count']} given{given}; {who} may approve{but}"
    if gate["expires_at"]:
        after = " (escalated)" if gate["is_escalated"] else ""
        then = "deny" if gate["is_escalated"] else gate["on_expiry"]
        yield f"expires {gate['expires_at']}{after}, then: {then}"
    for name, field in gate["form"].items():
        choices = f", one of {listing([str(each) for each in field['one_of']])}" if field.get("one_of") else ""
        default = f", default {field['default']}" if "default" in field else ""
        yield f"{name}: {field['type']}{choices}{default}{'' if field['required'] else ', may be left out'}"
    yield from _found(gate["found"])


def _found(found: dict[str, Any]) -> Iterator[str]:
    artifacts = found.get("artifacts")
    if artifacts:
        missing = [f"{each['step']}/{each['pattern']}" for each in artifacts["missing"]]
        lacks = f", missing {listing(missing)}" if missing else ""
        yield f"artifacts: {artifacts['status']}, {words.count(artifacts['found'], 'file')} found{lacks}"
    for check in found.get("checks", ()):
        yield f"check {check['step']} ({check['mode']}): {check['state']}"


def answers(view: GateView) -> Iterator[str]:
    """Yield what to type to answer."""
    short, step = words.short_id(view.run_id), shlex.quote(view.step)
    fields = "".join(f" --set {name}=..." for name in view.gate.to_fill_in)
    yield f"agentflow approve {short} {step}{fields}"
    yield f"agentflow reject {short} {step} --why ..."
