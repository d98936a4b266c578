"""A plan as a Mermaid flowchart, for ``agentflow plan graph`` and for documents.

Owns the drawing only; it shows the plan, not the state of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agentflow.domain.action import DecisionAction, GroupAction
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan, Step
from agentflow.domain.wording import shorten

_SHAPES = {"llm": ('(["', '"])'), "noop": ('(("', '"))'), "group": ('(("', '"))'), "decision": ('{"', '"}')}
_BOX = ('["', '"]')
_UNSAID = ("noop", "group")
"""Actions that say nothing beside the id: joins."""

Nodes = Mapping[StepKey, str]


def plan_to_mermaid(plan: Plan) -> str:
    """Return the steps of ``plan`` as nodes, the bodies of foreachs as boxes around theirs, and needs as arrows.

    An arrow tells any ``when`` but succeeded, and from a switch the labels that take the step.
    """
    # Ids may be words of Mermaid's own, such as ``end``: the nodes are numbered and carry the ids as labels.
    nodes = {step.id: f"s{position}" for position, step in enumerate(plan.every_step)}
    lines = ["flowchart TD", *_drawn(plan.steps, nodes, "    ")]
    lines.extend(_arrows(plan.steps, nodes))
    return "\n".join(lines) + "\n"


def _drawn(steps: Sequence[Step], nodes: Nodes, indent: str) -> Iterator[str]:
    for step in steps:
        if step.foreach is not None and step.foreach.steps:
            yield f'{indent}subgraph {nodes[step.id]}["{_label(step)}"]'
            yield from _drawn(step.foreach.steps, nodes, f"{indent}    ")
            yield f"{indent}end"
            continue
        opening, closing = _SHAPES.get(step.action.type, _BOX)
        yield f"{indent}{nodes[step.id]}{opening}{_label(step)}{closing}"


def _arrows(steps: Sequence[Step], nodes: Nodes) -> Iterator[str]:
    by_id = {step.id: step for step in steps}
    for step in steps:
        for need in step.needs:
            words = [*_labels(by_id[need], step.id), *([] if step.when == "succeeded" else [step.when])]
            told = _escaped(shorten(", ".join(words), 40))
            yield f"    {nodes[need]} " + (f'-->|"{told}"| ' if told else "--> ") + nodes[step.id]
        if step.foreach is not None:
            yield from _arrows(step.foreach.steps, nodes)


def _labels(need: Step, step: StepKey) -> list[str]:
    if not isinstance(need.action, DecisionAction) or need.foreach is not None:
        return []
    return [label for label, taken in need.action.cases.items() if step in taken]


def _label(step: Step) -> str:
    if step.foreach is not None:
        own = "" if isinstance(step.action, GroupAction) else f" {step.action.type}"
        return f"{_escaped(step.id)}<br/>foreach{own}"
    written = "switch" if isinstance(step.action, DecisionAction) else step.action.type
    return _escaped(step.id) if step.action.type in _UNSAID else f"{_escaped(step.id)}<br/>{written}"


def _escaped(text: str) -> str:
    """Write what Mermaid or HTML would read as its own as entities of Mermaid."""
    for character, entity in (
        ("#", "#35;"),
        ("&", "#amp;"),
        ('"', "#quot;"),
        ("<", "#lt;"),
        (">", "#gt;"),
        ("|", "#124;"),
    ):
        text = text.replace(character, entity)
    return text
