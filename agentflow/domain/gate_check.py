"""What the gates of a plan mean to its other steps: whose files and ends they look at, and who may read their forms.

Owns the faults that a gate alone does not show. References in general are reference_check's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from agentflow.domain.action import ApprovalAction
from agentflow.domain.action_reading import EXPRESSIONS, Place
from agentflow.domain.document import Value
from agentflow.domain.expression import inspect_expression, inspect_template
from agentflow.domain.gate import CheckMode, GateTerms
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import VarSpec
from agentflow.domain.step_document import StepDraft
from agentflow.domain.wording import did_you_mean, listing, shorten

Needs = Mapping[StepKey, Sequence[StepKey]]


def form_fields(drafts: Sequence[StepDraft]) -> dict[str, StepKey]:
    """The names that the forms of gates give values to, each with the first gate that has it."""
    found: dict[str, StepKey] = {}
    for key, terms, _ in _gates(drafts):
        for name in terms.form:
            found.setdefault(name, key)
    return found


def check_gates(
    drafts: Sequence[StepDraft], variables: Mapping[str, VarSpec] | None, needs: Needs, seen: Needs
) -> None:
    """Record every fault of the gates among ``drafts``, which are all steps of the plan, bodies too.

    ``needs`` are those of each step beside it, ``seen`` also those of the foreachs around it.
    """
    gates = list(_gates(drafts))
    forms = form_fields(drafts)
    if gates:
        graph, beside = Graph(seen), Graph(needs)
        by_key = {draft.key: draft for draft in reversed(drafts) if draft.key is not None}
        for key, terms, value in gates:
            _check_forms(key, terms, value, variables, forms)
            _check_findings(key, terms, value, by_key, graph)
            _check_redo(key, terms, value, by_key, beside)
        _check_readers(drafts, forms, graph)
    _check_messages(drafts)


def _gates(drafts: Sequence[StepDraft]) -> Iterator[tuple[StepKey, GateTerms, Value]]:
    for draft in drafts:
        action = draft.read.get("action")
        if isinstance(action, ApprovalAction) and draft.key is not None:
            yield draft.key, action.gate, draft.value.child("approval")


def _check_forms(
    key: StepKey,
    terms: GateTerms,
    value: Value,
    variables: Mapping[str, VarSpec] | None,
    forms: Mapping[str, StepKey],
) -> None:
    for name in terms.form:
        place = value.child("form").child(name)
        if name in (variables or {}):
            place.fault("form_clashes", f"the form sets {name}, which is a var of the plan: give it another name")
        elif forms[name] != key:
            place.fault("form_clashes", f"the form of {forms[name]} sets {name} too: give it another name")
    is_in_a_foreach = "foreach" in value.path[:-1] or value.path.count("steps") > 1
    if terms.form and is_in_a_foreach:
        value.child("form").fault("form_in_foreach", "a gate in a foreach has no form: its values are vars of the run")


def _check_findings(
    key: StepKey, terms: GateTerms, value: Value, drafts: Mapping[StepKey, StepDraft], graph: Graph
) -> None:
    for step in terms.artifacts:
        place = value.child("artifacts").child(step)
        if _comes_before(step, key, place, graph) and drafts[step].action_name not in (None, "subprocess"):
            place.fault("bad_value", f"artifacts are files of commands, and {step!r} is a step of another kind")
    for step, mode in terms.checks.items():
        place = value.child("checks").child(step)
        if not _comes_before(step, key, place, graph):
            continue
        if mode is not CheckMode.BLOCK and drafts[step].read.get("on_failure", "stop") == "stop":
            place.fault(
                "check_stops_run",
                f"a failure of {step} ends the run before the gate is asked: write on_failure: ignore there",
            )
    if terms.checks and drafts[key].read.get("when") in (None, "succeeded"):
        value.fault(
            "check_skips_gate", "a gate with checks is skipped when one of them fails: write when: always on it"
        )


def _comes_before(step: StepKey, gate: StepKey, place: Value, graph: Graph) -> bool:
    if step not in graph.needs:
        place.fault("unknown_step", f"{place.name} names an unknown step: {did_you_mean(step, graph.keys)}")
        return False
    if not graph.is_ancestor(step, of=gate):
        place.fault("not_an_ancestor", f"{shorten(step)!r} need not have ended before the gate: add it to its needs")
        return False
    return True


def _check_redo(
    key: StepKey, terms: GateTerms, value: Value, drafts: Mapping[StepKey, StepDraft], graph: Graph
) -> None:
    if terms.on_reject is None:
        return
    step, place = terms.on_reject.step, value.child("on_reject").child("redo")
    if not _comes_before(step, key, place, graph):
        return
    beside = _first_beside(graph, step, key)
    if beside:
        mend = f"let each of them need {key}, or add it, with what follows it, to the needs of {key}"
        if drafts[key].read.get("wave") is not None:
            mend = f"write {key} into a wave of its own"
        place.fault(
            "redo_beside_gate",
            f"{step} is done again, and {listing(beside)} may go on meanwhile with what it left before: {mend}",
        )


def _first_beside(graph: Graph, first: StepKey, gate: StepKey) -> list[StepKey]:
    """The steps behind ``first`` that neither end before the gate nor wait for it; not those behind them again."""
    passed, work = {first, gate}, [first]
    found: list[StepKey] = []
    while work:
        for each in graph.dependents[work.pop()]:
            if each in passed or graph.is_ancestor(gate, of=each):
                continue
            passed.add(each)
            (work if graph.is_ancestor(each, of=gate) else found).append(each)
    return found


def _check_readers(drafts: Sequence[StepDraft], forms: Mapping[str, StepKey], graph: Graph) -> None:
    """A var that a form sets is there only behind its gate."""
    for draft in drafts:
        for template in draft.templates:
            inspect = inspect_expression if template.place in EXPRESSIONS else inspect_template
            for reference in inspect(template.text).references:
                name = reference.names[0] if reference.root == "vars" else ""
                gate = forms.get(name)
                if gate is None or draft.key is None or graph.is_ancestor(gate, of=draft.key):
                    continue
                template.value.fault(
                    "not_behind_gate",
                    f"vars.{name} is filled in at the gate {gate}: add {gate} to the needs of this step",
                )


def _check_messages(drafts: Sequence[StepDraft]) -> None:
    for draft in drafts:
        for template in draft.templates:
            if template.place is not Place.MESSAGE:
                continue
            for reference in sorted(inspect_template(template.text).references, key=str):
                if reference.root not in ("vars", "run"):
                    template.value.fault(
                        "message_reads_content",
                        f"the message of a gate stands in a row and may refer to vars only, not to {reference}",
                    )
