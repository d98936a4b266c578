"""Whether what the texts of a plan refer to exists, comes earlier, and may stand where it stands.

Owns the rules for references: declared vars and secrets, ancestors, no step output in a shell command, no model's text
in a command. How references are found in a text is reference.py's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agentflow.domain.action_document import Place, Template
from agentflow.domain.document import Value
from agentflow.domain.expression import inspect_expression, inspect_template
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.reference import Reference
from agentflow.domain.step_document import StepDraft
from agentflow.domain.wording import did_you_mean, shorten

_LLM_CONTENT = ("stdout", "text", "result")
_OF_A_COMMAND = (Place.ARGV, Place.ENV, Place.CWD, Place.MODEL)


@dataclass(frozen=True)
class Declared:
    """What a plan declares. ``vars`` and ``secrets`` are None where they could not be read: then nothing is unknown."""

    vars: Collection[str] | None
    secrets: Collection[str] | None
    needs: Mapping[StepKey, Sequence[StepKey]]
    actions: Mapping[StepKey, str | None]


def check_references(drafts: Sequence[StepDraft], declared: Declared) -> None:
    """Record every fault of the templates, conditions and inputs of ``drafts``."""
    graph = Graph(declared.needs)
    for draft in drafts:
        for template in draft.templates:
            _check_template(draft, template, declared, graph)
        for one, value in draft.inputs:
            if draft.action_name not in (None, "subprocess"):
                value.fault("bad_value", "inputs are files for a command: only a subprocess step has them")
            _check_step(draft, one.step, value, graph)


def _check_template(draft: StepDraft, template: Template, declared: Declared, graph: Graph) -> None:
    inspect = inspect_expression if template.place is Place.WHEN else inspect_template
    inspection = inspect(template.text)
    for problem in inspection.problems:
        template.value.fault(problem.code, f"{template.place}: {problem.message}")
    for reference in sorted(inspection.references, key=str):
        match reference.root:
            case "vars":
                _check_declared(reference, "var", declared.vars, template.value)
            case "secrets":
                _check_declared(reference, "secret", declared.secrets, template.value)
                _check_secret_place(reference, template)
            case "steps":
                _check_step_reference(draft, reference, template, declared, graph)
            case _:
                pass


def _check_declared(reference: Reference, what: str, known: Collection[str] | None, value: Value) -> None:
    name = reference.names[0]
    if known is not None and name not in known:
        section = reference.root
        value.fault(
            f"unknown_{what}",
            f"{reference.root}.{shorten(name)} is not declared: {did_you_mean(name, known)} (add it to {section})",
        )


def _check_secret_place(reference: Reference, template: Template) -> None:
    if template.place is Place.WHEN:
        template.value.fault("secret_in_when", f"when cannot read {reference}: secrets exist only while a step runs")


def _check_step_reference(
    draft: StepDraft, reference: Reference, template: Template, declared: Declared, graph: Graph
) -> None:
    key = reference.step
    if key is None or not _check_step(draft, key, template.value, graph):
        return
    action = declared.actions.get(key)
    attribute = reference.attribute
    if action == "noop" and attribute != "state":
        template.value.fault("unknown_attribute", f"{reference}: a noop step has only .state")
    elif attribute == "text" and action not in ("llm", None):
        template.value.fault("unknown_attribute", f"{reference}: only an llm step has .text; a command has .stdout")
    elif template.place is Place.SHELL:
        template.value.fault(
            "step_output_in_shell",
            f"{reference} may not stand in a shell command, where it could become code: hand it over in env or stdin",
        )
    elif action == "llm" and attribute in _LLM_CONTENT and template.place in _OF_A_COMMAND:
        template.value.fault(
            "llm_output_in_command",
            f"{reference} is a model's text and may not stand in "
            f"{template.place}: hand it over on stdin or as a file (stdout_path)",
        )


def _check_step(draft: StepDraft, key: StepKey, value: Value, graph: Graph) -> bool:
    """Whether ``key`` is a step that comes before ``draft``; a fault when it is not."""
    if key == draft.key:
        value.fault("not_an_ancestor", f"{value.name} refers to its own step {key!r}, which has no output yet")
        return False
    if key not in graph.needs:
        value.fault(
            "unknown_step", f"{value.name} refers to an unknown step {shorten(key)!r}: {did_you_mean(key, graph.keys)}"
        )
        return False
    if draft.key is not None and not graph.is_ancestor(key, of=draft.key):
        value.fault(
            "not_an_ancestor",
            f"{value.name} refers to {key!r}, which need not have ended by then: add it to the needs of this step",
        )
        return False
    return True
