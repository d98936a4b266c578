"""The description: whole, in force, with examples that are true, and a page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from agentflow.api import components, page
from agentflow.api.declared import ANSWERS
from tests import openapi
from tests.integration.api.conftest import Api

Opened = Callable[..., httpx2.Client]
OPERATIONS = [
    (method.upper(), path, operation | {"responses": page.responses(openapi.description(), operation)})
    for path, methods in openapi.description()["paths"].items()
    for method, operation in methods.items()
]
UNPICTURED = {"Openapi", "PlanSchema"}  # their answers are too long for an example


def _targets(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_targets, value.values()))
    return set().union(*map(_targets, value)) if isinstance(value, list) else set()


def test_the_table_of_answers_and_the_routes_are_the_same_addresses() -> None:
    routed = {f"{method} {path.removeprefix(openapi.BASE)}" for method, path, _ in OPERATIONS}
    assert routed == set(ANSWERS)


@pytest.mark.parametrize(
    ("method", "path", "operation"), OPERATIONS, ids=[f"{each[0]} {each[1]}" for each in OPERATIONS]
)
def test_an_address_says_what_it_takes_and_answers(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"][0].isupper()
    assert any(status.startswith("2") for status in operation["responses"])
    for status, told in operation["responses"].items():
        kinds = told.get("content", {})
        assert all("$ref" in kind["schema"] for name, kind in kinds.items() if name.endswith("json"))
        assert status in ("200", "202", "204", "304") or status >= "4" or "Location" in told["headers"]
    if path != "/livez":
        assert operation["security"]
        assert {"401", "403", "429", "500", "503"} <= operation["responses"].keys()
        assert "Retry-After" in operation["responses"]["429"]["headers"]


def test_every_verb_on_a_run_or_schedule_can_be_held_to_what_was_seen() -> None:
    verbs = [
        (path, {each["name"].lower() for each in operation.get("parameters", ())})
        for method, path, operation in OPERATIONS
        if method != "GET" and ("/runs/{run}" in path or "/schedules/{name}" in path)
    ]

    assert len(verbs) > 15
    assert [path for path, names in verbs if "if-match" not in names] == []


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    document = openapi.description()
    for target in _targets(document):
        found: Any = document
        for part in target.removeprefix("#/").split("/"):
            found = found[part]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_every_body_and_answer_has_an_example_that_is_true() -> None:
    seen = set()
    for method, path, operation in OPERATIONS:
        for told in (operation.get("requestBody", {}), *operation["responses"].values()):
            for kind in (each for name, each in told.get("content", {}).items() if name.endswith("json")):
                name = kind["schema"]["$ref"].removeprefix("#/components/schemas/")
                if name in UNPICTURED or ("example" not in kind and name == "Problem"):
                    continue
                assert "example" in kind, (method, path, name)
                openapi.check_shape(kind["example"], kind["schema"])
                seen.add(name)
    assert seen - {"Problem"} == {name for name in components.examples() if not name.isdecimal()}


class _Page(HTMLParser):
    """What a page would load, run or leave to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.leads_to: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what a tag needs."""
        told = dict(attributes)
        self.anchors.add(told.get("id") or "")
        if tag == "a":
            self.leads_to.add(told["href"] or "")
        elif tag in ("script", "link", "img", "iframe", "object") or "style" in told or "src" in told:
            self.loads.append(tag)


def test_the_page_shows_every_address_and_loads_nothing() -> None:
    text = page.render(openapi.description())
    read = _Page()
    read.feed(text)

    assert read.loads == []
    assert "`" not in re.sub("<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert not any(" " in each for each in read.anchors)
    assert {each[1:] for each in read.leads_to if each.startswith("#")} <= read.anchors
    assert {each for each in read.leads_to if not each.startswith("#")} == {"openapi.json"}
    assert all(operation["operationId"] in read.anchors for _, _, operation in OPERATIONS)


def test_a_browser_is_asked_for_a_key_and_may_show_nothing_but_the_page(api: Api) -> None:
    key = api.flow.create_key("reader", "viewer").text
    with api.client() as stranger:
        refused = stranger.get("/docs")
        shown = stranger.get("/docs", auth=("anybody", key))
        elsewhere = stranger.get("/runs", auth=("anybody", key))

    assert (refused.status_code, elsewhere.status_code, shown.status_code) == (401, 401, 200)
    assert re.search(r'Basic realm="[^"]+"', refused.headers["WWW-Authenticate"])
    policy = shown.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_description_is_served_as_it_is_written(opened: Opened) -> None:
    assert opened("viewer").get("/openapi.json").json() == openapi.description()
