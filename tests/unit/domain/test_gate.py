"""Gates: who may decide, what fits a form, what a gate finds and decides by itself."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.gate import CheckMode, FormField, GateTerms, Verdict, group_of, refusal
from agentflow.domain.gate_finding import LeftFile, find, own_verdict
from agentflow.domain.gate_form import FormMisfit, completed, fill_in, read_value
from agentflow.domain.ids import StepKey
from agentflow.domain.state import StepState

GROUPS = {"ops": ("dora", "emil"), "empty": ()}
A, B = StepKey("a"), StepKey("b")


@pytest.mark.parametrize(
    ("approvers", "actor", "expected"),
    [
        ((), "anybody", "*"),
        (("alice",), "alice", "alice"),
        (("alice",), "Alice", None),
        (("@ops",), "dora", "@ops"),
        (("@ops",), "@ops", None),
        (("@ops",), "ops", None),
        (("@empty", "@unknown"), "dora", None),
        (("alice", "@ops"), "emil", "@ops"),
    ],
)
def test_names_and_members_of_groups_may_decide(approvers: tuple[str, ...], actor: str, expected: str | None) -> None:
    assert group_of(approvers, actor, GROUPS) == expected


def test_who_submitted_a_run_may_reject_it_and_approve_it_only_where_the_plan_says_so() -> None:
    for terms, verdict, code in (
        (GateTerms(), Verdict.APPROVE, "self_approval"),
        (GateTerms(), Verdict.REJECT, None),
        (GateTerms(allows_self=True), Verdict.APPROVE, None),
        (GateTerms(allows_self=True, approvers=("bob",)), Verdict.APPROVE, "not_an_approver"),
        (GateTerms(approvers=("bob",)), Verdict.REJECT, None),
    ):
        refused = refusal(terms, terms.approvers, "alice", verdict, {"alice"}, GROUPS)
        assert (refused and refused.code) == code, (terms, verdict)


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", "eu", "eu"),
        ("string", "5", "5"),
        ("integer", "5", 5),
        ("integer", -3, -3),
        ("number", "1.5", 1.5),
        ("number", 2, 2.0),
        ("boolean", "true", True),
        ("boolean", False, False),
    ],
)
def test_a_value_is_read_as_the_kind_of_its_field(kind: Any, given: Any, value: Any) -> None:
    read = read_value(FormField(type=kind), given)

    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("string", 5), ("string", None), ("string", "x" * 5000), ("string", "\0"), ("string", "\ud800"),
        ("integer", "1.5"), ("integer", True), ("integer", "true"), ("integer", "many"), ("integer", 2**70),
        ("number", "NaN"), ("number", "1e999"), ("number", True), ("boolean", "yes"), ("boolean", 1), ("boolean", "1"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused_and_not_quoted(kind: Any, given: Any) -> None:
    with pytest.raises(FormMisfit) as misfit:
        read_value(FormField(type=kind), given)

    assert str(given)[:40] not in str(misfit.value) or str(given) in ("true", "yes", "1", "True")


def test_one_is_not_true_among_choices() -> None:
    with pytest.raises(FormMisfit, match="none of its choices: 0, 2"):
        read_value(FormField(type="integer", one_of=(0, 2)), 1)
    assert read_value(FormField(type="number", one_of=(1, 2)), "1") == 1.0


def test_a_form_is_filled_in_by_several_who_agree() -> None:
    form = {"region": FormField(), "copies": FormField(type="integer", default=1), "note": FormField(required=False)}

    values, problems = fill_in(form, {"region": "eu", "regoin": "us"}, {})
    assert values == {"region": "eu"}
    assert problems == ("regoin is no field of the form: did you mean 'region'?",)
    assert fill_in(form, {"region": "eu"}, values)[1] == ()
    assert "set by an earlier approval" in fill_in(form, {"region": "us"}, values)[1][0]
    assert completed(form, {}) == ({"region": None, "copies": 1, "note": None}, ("region",))
    assert completed(form, values) == ({"region": "eu", "copies": 1, "note": None}, ())


def _file(name: str, size: int = 1) -> LeftFile:
    return LeftFile(A, name, size, "0" * 64)


@pytest.mark.parametrize(
    ("files", "status", "missing"),
    [
        ([_file("a.csv"), _file("b.json")], "pass", []),
        ([_file("a.csv")], "partial", ["*.json"]),
        ([_file("a.csv", 0), _file("b.json")], "partial", ["*.csv"]),
        ([_file("a.csv", 0)], "fail", ["*.csv", "*.json"]),
        ([], "fail", ["*.csv", "*.json"]),
    ],
)
def test_files_are_found_or_missing_and_an_empty_one_is_none(
    files: list[LeftFile], status: str, missing: list[str]
) -> None:
    terms = GateTerms(artifacts={A: ("*.csv", "*.json")}, is_automatic=True)

    found = find(terms, {A: files}, {}, {"succeeded": 1})

    assert (found.artifacts, [pattern for _, pattern in found.missing]) == (status, missing)
    assert own_verdict(terms, found) is (Verdict.REJECT if status == "fail" else Verdict.APPROVE)
    assert own_verdict(GateTerms(artifacts=terms.artifacts), found) is None


@pytest.mark.parametrize(
    ("mode", "state", "verdict"),
    [
        (CheckMode.BLOCK, StepState.SUCCEEDED, None),
        (CheckMode.BLOCK, StepState.FAILED, Verdict.REJECT),
        (CheckMode.BLOCK, StepState.SKIPPED, Verdict.REJECT),
        (CheckMode.WARN, StepState.FAILED, None),
        (CheckMode.SKIP, StepState.FAILED, None),
    ],
)
def test_a_blocked_check_rejects_a_gate_whoever_is_asked(
    mode: CheckMode, state: StepState, verdict: Verdict | None
) -> None:
    terms = GateTerms(checks={A: mode})

    found = find(terms, {}, {A: state}, {})

    assert own_verdict(terms, found) is verdict
    assert found.warned == ((A,) if mode is CheckMode.WARN else ())
    assert [check["step"] for check in found.as_json().get("checks", [])] == ([] if mode is CheckMode.SKIP else ["a"])


def test_an_automatic_gate_passes_with_its_checks() -> None:
    terms = GateTerms(checks={A: CheckMode.BLOCK, B: CheckMode.WARN}, is_automatic=True)

    found = find(terms, {}, {A: StepState.SUCCEEDED, B: StepState.FAILED}, {})

    assert own_verdict(terms, found) is Verdict.APPROVE
