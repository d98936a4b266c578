"""The written form of gates: what is read, and every fault with its place and words that help."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.action import ApprovalAction
from agentflow.domain.fault import Fault
from agentflow.domain.gate import CheckMode, FormField, GateKind, GateTerms, Redo
from agentflow.domain.plan_document import read_plan


def document(*steps: Any, **top: Any) -> dict[str, Any]:
    return {"agentflow": 1, "name": "p", **top, "steps": list(steps)}


def command(key: str, *needs: str, **fields: Any) -> dict[str, Any]:
    return {"id": key, "needs": list(needs), "subprocess": {"command": ["true"]}, **fields}


def gate(*needs: str, key: str = "gate", when: str | None = None, **terms: Any) -> dict[str, Any]:
    return {"id": key, "needs": list(needs), "approval": terms, **({"when": when} if when else {})}


def only_fault(*steps: Any, **top: Any) -> Fault:
    faults = read_plan(document(*steps, **top)).faults
    assert len(faults) == 1, [fault.message for fault in faults]
    return faults[0]


def test_a_gate_is_read_with_everything_that_it_may_say() -> None:
    written = gate(
        "a",
        when="always",
        message="Deploy {{ vars.app }}?",
        kind="quality",
        approvers=["alice", "@ops"],
        count=2,
        allow_self=True,
        form={
            "region": {"one_of": ["eu", "us"]},
            "copies": {"type": "integer", "default": 2},
            "note": {"required": False},
        },
        expires="24h",
        on_expiry="escalate",
        escalate_to=["@managers"],
        artifacts={"a": ["*.csv"]},
        checks={"a": "block"},
        on_reject={"redo": "a", "max_rounds": 3},
    )
    plan = read_plan(document(command("a"), written, vars={"app": "x"})).plan
    assert plan is not None
    action = plan.steps[1].action

    assert isinstance(action, ApprovalAction)
    assert action.gate == GateTerms.model_validate(
        {
            "kind": GateKind.QUALITY,
            "message": "Deploy {{ vars.app }}?",
            "approvers": ("alice", "@ops"),
            "count": 2,
            "allows_self": True,
            "form": {
                "region": FormField(one_of=("eu", "us")),
                "copies": FormField(type="integer", required=False, default=2),
                "note": FormField(required=False),
            },
            "expires_seconds": 86400,
            "on_expiry": "escalate",
            "escalate_to": ("@managers",),
            "artifacts": {"a": ("*.csv",)},
            "checks": {"a": CheckMode.BLOCK},
            "on_reject": Redo.model_validate({"step": "a", "max_rounds": 3}),
        }
    )
    assert plan.from_stored(plan.canonical_json()) == plan


@pytest.mark.parametrize(
    ("terms", "code", "words"),
    [
        ({"kind": "nothing"}, "bad_value", "kind cannot be 'nothing'"),
        ({"approvers": []}, "bad_value", "leave it out where anyone may decide"),
        ({"approvers": ["two words"]}, "bad_value", "'two words' is nobody"),
        ({"approvers": ["@"]}, "bad_value", "'@' is nobody"),
        ({"approvers": ["alice", "alice"]}, "bad_value", "names alice twice"),
        ({"approvers": ["alice"], "count": 2}, "bad_value", "count is 2, and only 1 may approve"),
        ({"count": 0}, "bad_value", "from 1 to"),
        ({"on_expiry": "approve"}, "bad_value", "write expires too"),
        ({"expires": "1h", "on_expiry": "escalate"}, "bad_value", "needs escalate_to"),
        ({"expires": "1h", "escalate_to": ["bob"]}, "bad_value", "goes with on_expiry: escalate"),
        ({"expires": "1h", "on_expiry": "approve", "form": {"x": {}}}, "bad_value", "would leave x without a value"),
        ({"expires": 5}, "bad_duration", "expires"),
        ({"form": {"1x": {}}}, "bad_id", "'1x' is no name of a var"),
        ({"form": {"x": {"type": "date"}}}, "bad_value", "type cannot be 'date'"),
        ({"form": {"x": {"type": "integer", "default": "y"}}}, "bad_value", "default: y must be a whole number"),
        ({"form": {"x": {"one_of": ["a"], "default": "b"}}}, "bad_value", "default: b is none of its choices: a"),
        ({"form": {"x": {"one_of": []}}}, "bad_value", "is empty: no value would fit"),
        ({"form": {"known": {}}}, "form_clashes", "which is a var of the plan"),
        ({"kind": "artifacts"}, "missing_field", "write artifacts: {STEP: [globs]}"),
        ({"kind": "quality"}, "missing_field", "write checks: {STEP: block|warn|skip}"),
        ({"automatic": True}, "bad_value", "decides by artifacts or checks"),
        ({"automatic": True, "artifacts": {"a": "*"}, "count": 1}, "bad_value", "asks nobody: remove count"),
        ({"artifacts": {"b": "*"}}, "unknown_step", "did you mean 'a'?|known: "),
        ({"artifacts": {"a": []}}, "bad_value", "artifacts names no file of a"),
        ({"artifacts": {"n": "*"}}, "bad_value", "artifacts are files of commands"),
        ({"artifacts": {"later": "*"}}, "not_an_ancestor", "add it to its needs"),
        ({"checks": {"a": "maybe"}}, "bad_value", "cannot be 'maybe'"),
        ({"checks": {"a": "block"}}, "check_skips_gate", "write when: always on it"),
        ({"on_reject": "again"}, "bad_value", "write fail, or {redo: STEP}"),
        ({"on_reject": {"redo": "later"}}, "not_an_ancestor", "need not have ended"),
        ({"on_reject": {"redo": "a", "max_rounds": 0}}, "bad_value", "from 1 to"),
        ({"message": "{{ steps.a.stdout }}"}, "message_reads_content", "may refer to vars only, not to steps.a.stdout"),
        ({"message": "{{ secrets.S }}"}, "message_reads_content", "not to secrets.S"),
        ({"message": "{{ vars.nothing }}"}, "unknown_var", "vars.nothing is not declared"),
        ({"messsage": "x"}, "unknown_field", "did you mean 'message'?"),
    ],
)
def test_a_fault_of_a_gate_is_told(terms: dict[str, Any], code: str, words: str) -> None:
    steps = [
        command("a"),
        {"id": "n", "needs": ["a"], "noop": {}},
        gate("a", "n", **terms),
        command("later", "gate"),
    ]

    fault = only_fault(*steps, vars={"known": 1}, secrets=["S"])

    assert fault.code == code
    assert any(word in fault.message for word in words.split("|{")[0].split("|")), fault.message
    assert fault.step == "gate"


def test_a_form_is_read_only_behind_its_gate() -> None:
    reads = {"subprocess": {"command": ["echo", "{{ vars.region }}"]}}

    fault = only_fault(command("a"), {"id": "b", "needs": ["a"], **reads}, gate("a", form={"region": {}}))

    assert (fault.code, fault.step) == ("not_behind_gate", "b")
    assert not read_plan(
        document(command("a"), gate("a", form={"region": {}}), {"id": "b", "needs": ["gate"], **reads})
    ).faults


def test_a_check_that_is_no_block_may_not_end_the_run() -> None:
    fault = only_fault(command("a"), gate("a", when="always", checks={"a": "warn"}))

    assert (fault.code, fault.path[-2:]) == ("check_stops_run", ("checks", "a"))
    steps = command("a", on_failure="ignore"), gate("a", when="always", checks={"a": "warn"})
    assert not read_plan(document(*steps)).faults


def test_two_gates_do_not_set_one_var() -> None:
    fault = only_fault(gate(form={"x": {}}), gate("gate", key="second", form={"x": {}}))

    assert (fault.code, fault.step) == ("form_clashes", "second")


def test_a_gate_of_a_foreach_has_no_form() -> None:
    inner = {"id": "each", "foreach": [1, 2], "steps": [gate(form={"x": {}})]}

    assert only_fault(inner).code == "form_in_foreach"


BACK = {"on_reject": {"redo": "a"}}
LOOP = {"id": "each", "needs": ["a"], "foreach": [1], "noop": {}}


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([command("a"), gate("a", **BACK), command("b", "a"), command("c", "b")], "b"),
        ([command("a"), gate("a", **BACK), command("b", "a"), command("c", "b", "gate")], "b"),
        ([command("a"), command("b", "a"), gate("b", **BACK), command("c", "a"), command("d", "b")], "c, d"),
        ([command("a"), gate("a", **BACK), gate("a", key="other")], "other"),
        ([command("a"), LOOP, gate("a", **BACK)], "each"),
        ([{"id": "l", "foreach": [1], "steps": [command("a"), gate("a", **BACK), command("b", "a")]}], "b"),
    ],
    ids=["a chain", "joined again", "two ways", "another gate", "a foreach", "in a body"],
)
def test_what_a_rejection_does_again_holds_nothing_that_goes_on_beside_the_gate(steps: Any, named: str) -> None:
    fault = only_fault(*steps)

    assert (fault.code, fault.step, fault.path[-2:]) == ("redo_beside_gate", "gate", ("on_reject", "redo"))
    assert f"and {named} may go on meanwhile" in fault.message


@pytest.mark.parametrize(
    "steps",
    [
        [command("a"), LOOP, command("b", "each"), gate("b", **BACK), command("c", "gate", "a")],
        [command("z"), command("a", "z"), gate("a", **BACK), command("c", "z")],
        [command("a"), gate("a", key="early", **BACK), gate("early", **BACK), command("b", "gate", "early", "a")],
    ],
    ids=["before or behind", "before what is done again", "gates in a row"],
)
def test_what_ends_before_a_gate_or_waits_for_it_may_be_done_again(steps: Any) -> None:
    assert read_plan(document(*steps)).faults == ()


def test_a_gate_that_sends_a_run_back_is_alone_in_its_wave() -> None:
    first = {"id": "a", "wave": 1, "noop": {}}
    asking = {"id": "gate", "wave": 2, "approval": BACK}

    fault = only_fault(first, asking, {"id": "b", "wave": 2, "noop": {}})

    assert fault.code == "redo_beside_gate"
    assert fault.message.endswith("write gate into a wave of its own")
    assert read_plan(document(first, asking, {"id": "b", "wave": 3, "noop": {}})).faults == ()
