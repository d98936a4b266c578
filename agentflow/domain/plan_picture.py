"""A plan as a Mermaid flowchart, for ``agentflow plan graph`` and for documents.

Owns the drawing only; it shows the plan, not the state of a run.
"""

from __future__ import annotations

from agentflow.domain.plan import Plan, Step
from agentflow.domain.wording import shorten

_SHAPES = {"subprocess": ('["', '"]'), "llm": ('(["', '"])'), "noop": ('(("', '"))')}


def plan_to_mermaid(plan: Plan) -> str:
    """Return the steps of ``plan`` as nodes, and their needs as arrows that tell any ``when`` but succeeded."""
    # Ids may be words of Mermaid's own, such as ``end``: the nodes are numbered and carry the ids as labels.
    nodes = {step.id: f"s{position}" for position, step in enumerate(plan.steps)}
    lines = ["flowchart TD"]
    for step in plan.steps:
        opening, closing = _SHAPES[step.action.type]
        lines.append(f"    {nodes[step.id]}{opening}{_label(step)}{closing}")
    for step in plan.steps:
        arrow = "-->" if step.when == "succeeded" else f'-->|"{_escaped(shorten(step.when, 40))}"|'
        lines.extend(f"    {nodes[need]} {arrow} {nodes[step.id]}" for need in step.needs)
    return "\n".join(lines) + "\n"


def _label(step: Step) -> str:
    return _escaped(step.id) if step.action.type == "noop" else f"{_escaped(step.id)}<br/>{step.action.type}"


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
