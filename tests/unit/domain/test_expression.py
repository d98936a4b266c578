"""Templates and conditions: what they give, what they refer to, and what they are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.error import TemplateError
from agentflow.domain.expression import (
    ARGUMENT_LIMIT_BYTES,
    bare_expression,
    evaluate,
    holds,
    inspect_expression,
    inspect_template,
    references,
    render,
    render_argument,
)

CONTEXT: dict[str, Any] = {
    "vars": {
        "items": [3, 1, 1],
        "log": "a.log",
        "n": 3,
        "yes": True,
        "nothing": None,
        "half": 0.5,
        "map": {"b": 1, "a": "é"},
    },
    "secrets": {"TOKEN": "hunter2"},
    "run": {"id": "r-1"},
    "steps": {
        "collect": {"stdout": "7", "state": "succeeded", "exit_code": 0, "result": {"worst": [{"hour": 13}], "x": 2}},
        "a-b": {"stdout": "dashed", "artifacts": {"report.md": {"path": "/kept/report.md"}}},
    },
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("no expression", "no expression"),
        ("a {{ vars.log }} b {{run.id}}", "a a.log b r-1"),
        ("{{ steps.collect.stdout }}", "7"),
        ('{{ steps["a-b"].stdout }}', "dashed"),
        ("{{ steps['a-b'].artifacts['report.md'].path }}", "/kept/report.md"),
        ("{{ steps.collect.result.worst[0].hour + 1 }}", "14"),
        ("{{ vars.yes }} {{ vars.nothing }} {{ vars.half }}", "true null 0.5"),
        ("{{ vars.items }}{{ vars.map }}", '[3, 1, 1]{"a": "é", "b": 1}'),
        ("{{ secrets.TOKEN }}", "hunter2"),
        ('{{ {"a": {"b": {}}} }}', '{"a": {"b": {}}}'),
        ("{{ 'a' if vars.n > 2 else 'b' }}", "a"),
        ("{{ vars.absent | default('d') }}", "d"),
        ("{{ vars.n is odd and vars.log is string }}", "true"),
        ("{{ 'log' in vars.log }} {{ vars.n in (1, 3) }}", "true true"),
        ("{{ 7 // 2 }} {{ 7 % 2 }} {{ 7 * 2 }} {{ -7 / 2 }}", "3 1 14 -3.5"),
        ("{{ vars.log[0:1] }}{{ vars.log[-1] }}", "ag"),
        ("x \n {{- vars.n -}} \n y", "x3y"),
        ("echo ${#name} } }} {# no comment #}", "echo ${#name} } }} {# no comment #}"),
        ("{{ '{{' }} {{ '{%' }} {{ \"}}\" }}", "{{ {% }}"),
        ("line\r\nend\n{{ vars.n }}\r\n", "line\r\nend\n3\r\n"),
    ],
)
def test_a_template_renders_to_text(text: str, rendered: str) -> None:
    assert render(text, CONTEXT) == rendered


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ vars.items | length }} {{ vars.map | length }}", "3 2"),
        ("{{ vars.items | sort | join('-') }}", "1-1-3"),
        ("{{ vars.items | sort(reverse=true) | first }}", "3"),
        ("{{ vars.items | unique }}{{ vars.items | last }}", "[3, 1]1"),
        ("{{ vars.log | upper }}{{ 'ABC' | lower }}", "A.LOGabc"),
        ("{{ '  x ' | trim }}", "x"),
        ("{{ vars.log | replace('.', '/') }}", "a/log"),
        ("{{ '5.9' | int }} {{ '0x' | int(default=1) }} {{ '2' | float }} {{ true | int }}", "5 1 2.0 1"),
        ("{{ 2.567 | round(1) }} {{ 2.5 | round }}", "2.6 2"),
        ("{{ vars.map | tojson }} {{ 'é' | tojson }}", '{"a": "é", "b": 1} "é"'),
        ("{{ 'ab' | list }} {{ vars.map | list }}", '["a", "b"] ["b", "a"]'),
        ("{{ 'a,b' | split(',') }} {{ 'a\\nb' | lines | last }}", '["a", "b"] b'),
        ('{{ "it\'s" | quote }}', "'it'\"'\"'s'"),
        ("{{ vars.yes | string + '!' }}", "true!"),
    ],
)
def test_the_filters_give_plain_data(text: str, rendered: str) -> None:
    assert render(text, CONTEXT) == rendered


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{% for x in y %}", "blocks"),
        ("{{ vars.log", "has no end"),
        ("a\nb {{ 'x }}", "line 2"),
        ("{{ (vars.log] }}", "has no end"),
        ("{{ }}", "empty"),
        ("{{ vars. }}", "syntax error"),
        ("{{ .State }}", "to write {{ itself"),
        ("{{ vars.log, vars.n }}", "exactly one expression"),
        ("{{ vars.items() }}", "calls are not allowed"),
        ("{{ range(9) }}", "calls are not allowed"),
        ("{{ 2 ** 9 }}", r"\*\* is not allowed"),
        ("{{ 'a' ~ 'b' }}", "~ is not allowed"),
        ("{{ vars.log | uper }}", "did you mean 'upper'"),
        ("{{ vars.log | attr('x') }}", "unknown filter"),
        ("{{ vars.log is callable }}", "unknown test"),
        ("{{ log }}", "unknown name 'log'"),
        ("{{ lipsum }}", "unknown name"),
        ("{{ steps.collect.stdot }}", "did you mean 'stdout'"),
        ("{{ steps.collect }}", "steps.collect is not one value"),
        ("{{ steps }}", "not one value"),
        ("{{ vars }}", "not one value"),
        ("{{ run.idd }}", "did you mean 'id'"),
        ("{{ vars[vars.log] }}", "computed name"),
        ("{{ steps[vars.log].stdout }}", "computed name"),
        ("{{ steps.collect[vars.log] }}", "computed name"),
        ("{{ steps.collect.artifacts.x }}", 'artifacts\\["x"\\].path'),
        ("{{ steps.collect.artifacts.x.size }}", "has no 'size'"),
        ("{{ steps.a-b.stdout }}", 'steps\\["a-b"\\].stdout'),
        ("{{ steps.a-b-c.stdout }}", 'steps\\["a-b-c"\\].stdout'),
        ("{{ 'a' if vars.yes }}", "both sides"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "too deep"),
        ("{{ " + "+".join(["1"] * 500) + " }}", "deeper than"),
        ("{{ " + "1" * 9000 + " }}", "longer than"),
    ],
)
def test_what_a_template_may_not_hold_is_told_without_evaluating(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        references(text)
    with pytest.raises(TemplateError, match=message):
        render(text, CONTEXT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ vars.absent }}", "'absent' is not there"),
        ("{{ vars.items[9] }}", "is not there"),
        ("{{ vars.keys }}", "'keys' is not there"),
        ("{{ vars.log.upper }}", "'upper' is not there"),
        ("{{ vars.log.__class__ }}", "is not there"),
        ("{{ ''.__class__.__mro__ }}", "is not there"),
        ("{{ steps.absent.stdout }}", "'absent' is not there"),
        ("{{ steps.collect.text }}", "'text' is not there"),
        ("{{ 'a' * 9 }}", "takes two numbers"),
        ("{{ [1] * 9 }}", "takes two numbers"),
        ("{{ '%9999999999d' % 1 }}", "takes two numbers"),
        ("{{ 0x" + "f" * 300 + " * 2 }}", "too large"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ vars.log > 1 }}", "TypeError"),
        ("{{ vars.log | int }}", "not a whole number"),
        ("{{ 'inf' | float }}", "not a number"),
        ("{{ 1 | round(-99999999) }}", "precision"),
        ("{{ [] | first }}", "empty"),
        ("{{ [1, 'a'] | sort }}", "sort takes"),
        ("{{ 3 | length }}", "length takes"),
    ],
)
def test_what_cannot_be_evaluated_is_told(text: str, message: str) -> None:
    references(text)
    with pytest.raises(TemplateError, match=message):
        render(text, CONTEXT)


def test_a_text_is_read_as_json_and_of_a_list_each_text() -> None:
    assert evaluate("vars.a | fromjson", {"vars": {"a": '{"n": [1]}'}}) == {"n": [1]}
    assert evaluate("vars.a | fromjson", {"vars": {"a": ["1", None, '"x"']}}) == [1, None, "x"]


@pytest.mark.parametrize("value", ["{", None, 1])
def test_what_is_no_json_is_not_quoted(value: object) -> None:
    with pytest.raises(TemplateError) as raised:
        evaluate("vars.a | fromjson", {"vars": {"a": value}})
    assert "cannot be evaluated" in str(raised.value)


def test_parts_of_a_merge_are_those_that_came_and_subtasks_one_by_one() -> None:
    given = [None, {"node_id": "a", "output": 1}, {"node_id": "b", "subtasks": ["x", None]}]

    assert evaluate("vars.a | parts", {"vars": {"a": given}}) == [
        {"node_id": "a", "output": 1},
        {"node_id": "b", "node_status": "completed", "output": "x"},
        {"node_id": "b", "node_status": "failed", "output": None},
    ]


def test_filters_cannot_make_a_short_text_a_huge_one() -> None:
    context = {"vars": {"big": "a" * 100_000}}
    with pytest.raises(TemplateError, match="beyond all bounds"):
        render("{{ vars.big | replace('a', vars.big) }}", context)
    with pytest.raises(TemplateError, match="beyond all bounds"):
        render("{{ vars.big | list | join(vars.big) }}", context)


@pytest.mark.parametrize(
    "text",
    [
        "{{ vars.sentinel | int }}",
        "{{ vars.sentinel > 1 }}",
        "{{ vars.map[vars.sentinel] }}",
        "{{ vars.map | length + vars.sentinel }}",
        "{{ 'sentinel' | int }}",
        "{{ vars.map | sort }}",
    ],
)
def test_messages_quote_neither_values_nor_literal_texts(text: str) -> None:
    context = {"vars": {"sentinel": "ZEBRA", "map": {}}}
    with pytest.raises(TemplateError) as caught:
        render(text.replace("'sentinel'", "'ZEBRA'"), context)
    assert "ZEBRA" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_references_are_found_wherever_they_stand() -> None:
    text = (
        'x {{ steps.a.artifacts["q.md"].path }} {{ vars.x if steps["b-c"].result[vars.y].z else secrets.Z }}'
        " {{ [run.id, {'k': vars.w}] | join(vars.v) }}"
    )
    assert {str(reference) for reference in references(text)} == {
        "steps.a.artifacts.q.md.path",
        "vars.x",
        "steps.b-c.result",
        "vars.y",
        "secrets.Z",
        "run.id",
        "vars.w",
        "vars.v",
    }
    (reference,) = references("{{ steps.a.stdout }}")
    assert (reference.step, reference.attribute) == ("a", "stdout")


def test_every_problem_of_a_template_is_found_at_once() -> None:
    inspection = inspect_template("{{ log }} {{ vars.x() }} {{ vars.y }} {{ steps.a.b | nope }}")
    assert [problem.code for problem in inspection.problems] == [
        "unknown_name",
        "template_not_allowed",
        "unknown_filter",
        "unknown_attribute",
    ]
    assert {str(reference) for reference in inspection.references} == {"vars.x", "vars.y"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("vars.n > 2", True),
        ("{{ vars.n > 2 }}", True),
        ("not vars.yes", False),
        ("steps.collect.state == 'succeeded' and steps.collect.exit_code == 0", True),
        ("steps.collect.result.x", True),
        ("vars.nothing", False),
        ("[]", False),
    ],
)
def test_a_condition_holds_or_does_not(source: str, expected: bool) -> None:
    assert holds(source, CONTEXT) is expected


def test_text_is_no_condition() -> None:
    with pytest.raises(TemplateError, match="compare it"):
        holds("vars.log", CONTEXT)


@pytest.mark.parametrize("source", ["a }} {{ b", "vars.n >", "{% if x %}", "", "vars.n }} x"])
def test_a_condition_is_exactly_one_expression(source: str) -> None:
    assert inspect_expression(source).problems
    with pytest.raises(TemplateError):
        holds(source, CONTEXT)


def test_only_a_template_is_told_how_to_write_braces() -> None:
    (bare,), (braced,) = inspect_expression("vars.n >").problems, inspect_template("{{ vars.n > }}").problems
    assert bare.message == "the expression has a syntax error: it ends too early"
    assert braced.message == f"{bare.message} (to write {{{{ itself, write {{{{ '{{{{' }}}})"


def test_an_expression_keeps_the_kind_of_its_value() -> None:
    assert evaluate("steps.collect.result.worst", CONTEXT) == [{"hour": 13}]


def test_braces_around_a_condition_fall_away_only_when_they_are_the_whole_of_it() -> None:
    assert bare_expression(" {{ vars.x }} ") == "vars.x"
    assert bare_expression("{{ vars.x }} {{ vars.y }}") == "{{ vars.x }} {{ vars.y }}"


def test_an_argument_is_bounded_and_the_message_names_the_path_form() -> None:
    context = {"vars": {"x": "é" * (ARGUMENT_LIMIT_BYTES // 2)}}
    assert len(render_argument("{{ vars.x }}", context).encode()) == ARGUMENT_LIMIT_BYTES
    with pytest.raises(TemplateError, match="stdout_path"):
        render_argument("{{ vars.x }}!", context)


def test_an_argument_cannot_hold_a_nul() -> None:
    with pytest.raises(TemplateError, match="NUL"):
        render_argument("{{ vars.x }}", {"vars": {"x": "a\0b"}})


class _Lazy(Mapping[str, Any]):
    """A mapping that tells which of its keys were read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __getitem__(self, name: str) -> str:
        self.read.append(name)
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_a_lazy_mapping_is_asked_only_for_what_is_referred_to() -> None:
    lazy = _Lazy()
    assert render("{{ steps.collect.stdout }}", {"steps": {"collect": lazy}}) == "stdout"
    assert lazy.read == ["stdout"]


@given(st.text(max_size=40).filter(lambda text: "{{" not in text and "{%" not in text))
def test_text_without_expressions_renders_to_itself(text: str) -> None:
    assert render(text, {}) == text
    # A trailing brace would open the expression one character early.
    if not text.endswith("{"):
        assert render(text + "{{ vars.x }}", {"vars": {"x": "v"}}) == text + "v"


@given(st.text(alphabet="{}%#'\"()[]|.-+* \nvarsx1", max_size=30))
def test_any_text_is_rendered_or_refused_and_inspection_agrees(text: str) -> None:
    problems = inspect_template(text).problems
    try:
        render(text, {"vars": {"x": 1}})
    except TemplateError:
        return
    assert not problems


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_values_that_are_no_text_render_as_json_that_reads_back(value: Any) -> None:
    rendered = render("{{ vars.x }}", {"vars": {"x": value}})
    assert (rendered if isinstance(value, str) else json.loads(rendered)) == value
