"""Whether what the texts of a plan refer to exists, comes earlier, and may stand where it stands.

Owns the rules for references: declared vars and secrets, ancestors, what steps of each action have, no step output in a
shell command, no model's text in a command or an address, no secret before a model's eyes. How references are found in
a text is reference.py's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agentflow.domain.action_reading import EXPRESSIONS, Place, Template
from agentflow.domain.document import Value
from agentflow.domain.expression import inspect_expression, inspect_template
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.item_flow import FOREACH_ATTRIBUTES, RESULTS, ItemFlow, loop_of
from agentflow.domain.reference import LOOP_ROOTS, Reference
from agentflow.domain.step_document import TAKES_INPUTS, StepDraft
from agentflow.domain.wording import did_you_mean, listing, shorten

ANSWER_ATTRIBUTES = ("text", "text_path", "result")
"""What of an llm step is read from its answer."""
_OF_AN_ANSWER = (*ANSWER_ATTRIBUTES, "state")
_OF_A_COMMAND = ("stdout", "stdout_path", "stderr_path", "result", "state", "exit_code", "artifacts")
_ATTRIBUTES: Mapping[str, Sequence[str]] = {
    "noop": ("state",),
    "foreach": FOREACH_ATTRIBUTES,
    "decision": ("state", "choice"),
    "wait": ("state", "result"),
    "approval": ("state", "result"),
    "run": ("state", "result"),
    "llm": _OF_AN_ANSWER,
    "http": _OF_AN_ANSWER,
    "subprocess": _OF_A_COMMAND,
    "python": _OF_A_COMMAND,
    "notify": ("state",),
}
"""What steps have, by action; a step of an action that is not here may have anything."""
_RESULT_COMES_WITH = {"llm": "output_schema", "http": "outputs: body_json"}
_MODEL_OUTPUT = ("text", "result")
_IN_A_COMMAND = "llm_output_in_command", "hand it over on stdin or as a file (text_path)"
_IN_AN_ADDRESS = "llm_output_in_address", "a model must not choose who is called; hand it over in prompt or json"
_IN_VARS = "llm_output_in_vars", "vars stand in rows, where nothing that a model wrote may be"
_CLOSED_TO_MODELS: Mapping[Place, tuple[str, str]] = {
    Place.ARGV: _IN_A_COMMAND,
    Place.ENV: _IN_A_COMMAND,
    Place.CWD: _IN_A_COMMAND,
    Place.MODEL: _IN_AN_ADDRESS,
    Place.URL: _IN_AN_ADDRESS,
    Place.HEADERS: _IN_AN_ADDRESS,
    Place.EMAIL: _IN_AN_ADDRESS,
    Place.VARS: _IN_VARS,
}
_IN_ROWS: Mapping[Place, str] = {
    Place.MODEL: "the name of the model is recorded with each call",
    Place.VARS: "vars stand in rows",
}
"""Places that end up in rows, where of a service's answer only what the plan declares as its result may be."""
_CLOSED_TO_SECRETS: Mapping[Place, tuple[str, str]] = {
    Place.WHEN: ("secret_in_when", "secrets exist only while a step runs"),
    Place.SWITCH: ("secret_in_switch", "secrets exist only while a step runs"),
    Place.ITEMS: ("secret_in_items", "secrets exist only while a step runs"),
    Place.PROMPT: ("secret_in_prompt", "a model must not read secrets"),
    Place.SYSTEM: ("secret_in_prompt", "a model must not read secrets"),
    Place.MODEL: ("secret_in_model", "the name of the model is recorded with each call"),
    Place.VARS: ("secret_in_vars", "vars stand in rows; the plan that is run declares its own secrets"),
}


@dataclass(frozen=True, slots=True)
class Producer:
    """What a step is to those that refer to it: its action, None where it could not be read, and if it has a result."""

    action: str | None
    has_result: bool


@dataclass(frozen=True)
class Declared:
    """What a plan declares. ``vars`` and ``secrets`` are None where they could not be read: then nothing is unknown."""

    vars: Collection[str] | None
    secrets: Collection[str] | None
    needs: Mapping[StepKey, Sequence[StepKey]]
    producers: Mapping[StepKey, Producer]
    flow: ItemFlow
    """The foreachs of the plan."""

    def producer(self, key: StepKey) -> Producer:
        """What a step is to others; one that could not be read may have anything."""
        return self.producers.get(key, Producer(None, has_result=True))


def check_references(drafts: Sequence[StepDraft], declared: Declared) -> frozenset[StepKey]:
    """Record every fault of the templates, conditions and inputs of ``drafts``.

    Returns the steps to whose answers other steps refer.
    """
    graph = Graph(declared.needs)
    needed: set[StepKey] = set()
    for draft in drafts:
        for template in draft.templates:
            references = _check_template(draft, template, declared, graph)
            needed |= _answers_read(references, declared.flow)
        for one, value in draft.inputs:
            if draft.action_name not in (None, *TAKES_INPUTS):
                value.fault("bad_value", "inputs are files for a command: only a subprocess or python step has them")
            elif _check_step(draft, one.step, value, declared, graph):
                _check_input(one.step, value, declared)
    return frozenset(needed)


def _answers_read(references: Collection[Reference], flow: ItemFlow) -> set[StepKey]:
    """The steps whose answers are read, if these are steps that have any."""
    own = {each.step for each in references if each.step and each.attribute in ANSWER_ATTRIBUTES}
    return own | {flow.results_of(each.step) for each in references if each.step and each.attribute == RESULTS}


def _check_input(key: StepKey, value: Value, declared: Declared) -> None:
    action = declared.producer(key).action
    has = _ATTRIBUTES.get(action or "", ("artifacts",))
    if "artifacts" not in has:
        hint = f": write {{{{ steps.{key}.text_path }}}} in the command" if "text_path" in has else ""
        value.fault("bad_value", f"inputs are artifacts of commands, and {key!r} is a step of {action}{hint}")


def _check_template(draft: StepDraft, template: Template, declared: Declared, graph: Graph) -> frozenset[Reference]:
    inspect = inspect_expression if template.place in EXPRESSIONS else inspect_template
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
            case root if root in LOOP_ROOTS:
                _check_loop_reference(draft, reference, template, declared)
            case "steps":
                _check_step_reference(draft, reference, template, declared, graph)
            case _:
                pass
    return inspection.references


def _check_declared(reference: Reference, what: str, known: Collection[str] | None, value: Value) -> None:
    name = reference.names[0]
    if known is not None and name not in known:
        section = reference.root
        value.fault(
            f"unknown_{what}",
            f"{reference.root}.{shorten(name)} is not declared: {did_you_mean(name, known)} (add it to {section})",
        )


def _check_secret_place(reference: Reference, template: Template) -> None:
    if template.place in _CLOSED_TO_SECRETS:
        code, why = _CLOSED_TO_SECRETS[template.place]
        template.value.fault(code, f"{template.place} cannot read {reference}: {why}")


def _check_step_reference(
    draft: StepDraft, reference: Reference, template: Template, declared: Declared, graph: Graph
) -> None:
    key = reference.step
    if key is None or not _check_step(draft, key, template.value, declared, graph):
        return
    problem = _missing_in(reference, declared.producer(key))
    if problem is not None:
        template.value.fault("unknown_attribute", f"{reference}: {problem}")
    elif template.place is Place.SHELL:
        _refuse_in_shell(reference, template)
    else:
        _refuse_answers(reference, template, declared.flow.sources(reference, ()), declared)


def _check_loop_reference(draft: StepDraft, reference: Reference, template: Template, declared: Declared) -> None:
    """Whether there is such a foreach around the text, and whether its items may stand there."""
    if draft.key is None:
        return
    is_inside = template.place not in (Place.ITEMS, Place.WHEN)
    loops = declared.flow.loops(draft.key, is_inside=is_inside)
    if loop_of(reference, loops) is None:
        template.value.fault("outside_of_foreach", f"{reference} {_why_no_loop(draft.key, reference, loops, declared)}")
        return
    sources = declared.flow.sources(reference, loops)
    if sources and template.place is Place.SHELL:
        _refuse_in_shell(reference, template)
    else:
        _refuse_answers(reference, template, sources, declared)


def _why_no_loop(key: StepKey, reference: Reference, loops: Sequence[StepKey], declared: Declared) -> str:
    if declared.flow.node(key).is_foreach and (reference.root != "loops" or reference.names[0] == key):
        return f"does not exist yet: what {key!r} asks before it has its items cannot read them"
    if reference.root != "loops" or not loops:
        return "exists only inside of a foreach, and this is in none"
    return f"names no foreach around this step: {did_you_mean(reference.names[0], loops)}"


def _refuse_in_shell(reference: Reference, template: Template) -> None:
    template.value.fault(
        "step_output_in_shell",
        f"{reference} may not stand in a shell command, where it could become code: hand it over in env or stdin",
    )


def _refuse_answers(
    reference: Reference, template: Template, sources: Collection[tuple[StepKey, str]], declared: Declared
) -> None:
    """Record a fault where a model's text, or a service's, stands in a place that is closed to it."""
    read = {(declared.flow.node(step).action, what) for step, what in sources}
    if template.place in _CLOSED_TO_MODELS and any(("llm", what) in read for what in _MODEL_OUTPUT):
        code, hint = _CLOSED_TO_MODELS[template.place]
        template.value.fault(code, f"{reference} is a model's text and may not stand in {template.place}: {hint}")
    elif template.place in _IN_ROWS and ("http", "text") in read:
        template.value.fault(
            "answer_in_row",
            f"{reference} is a service's answer and may not stand in {template.place}: {_IN_ROWS[template.place]}. "
            "Declare what of it may be there: outputs: body_json on the http step, and read its result",
        )


def _missing_in(reference: Reference, producer: Producer) -> str | None:
    """Say why a step does not have what is referred to; None where it has it."""
    action, attribute = producer.action, reference.attribute
    has = _ATTRIBUTES.get(action or "")
    if action is None or has is None:
        return None
    if attribute not in has:
        return f"a step of {action} has only {listing(['.' + each for each in has])}"
    if attribute == "result" and not producer.has_result:
        return f"the step has no result: it comes with {_RESULT_COMES_WITH[action]}"
    return None


def _check_step(draft: StepDraft, key: StepKey, value: Value, declared: Declared, graph: Graph) -> bool:
    """Whether ``key`` is a step that ``draft`` sees and that comes before it; a fault when it is not."""
    if draft.key is not None and (foreach := declared.flow.hidden_by(key, draft.key)) is not None:
        value.fault(
            "inside_of_foreach",
            f"{value.name} refers to {key!r}, which is there once for each item of {foreach!r}: refer to "
            f"steps.{foreach}.{RESULTS} outside of it",
        )
        return False
    if draft.key is not None and key in declared.flow.node(draft.key).around:
        value.fault(
            "not_an_ancestor", f"{value.name} refers to the foreach {key!r} from inside of it: it has not ended"
        )
        return False
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
