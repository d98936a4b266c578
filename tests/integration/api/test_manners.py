"""What a request may not bring is refused with words that help, before anything is done; and HEAD is answered."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from agentflow.api import intake
from tests import openapi
from tests.integration.api.conftest import Api

Opened = Callable[..., httpx2.Client]
PLAN = {"agentflow": 1, "name": "polite", "steps": [{"id": "a", "noop": {}}]}
READS = sorted(path.removeprefix(openapi.BASE) for path, of in openapi.description()["paths"].items() if "get" in of)
STREAM = {"Accept": "text/event-stream"}
JSON = {"Content-Type": "application/json"}


def _misfit(answer: httpx2.Response) -> tuple[int, str, dict[str, str]]:
    told = answer.json()
    assert told["details"] == {"faults": len(told["faults"])}
    return answer.status_code, told["code"], {each["field"]: each["code"] for each in told["faults"]}


@pytest.fixture
def run(opened: Opened) -> str:
    """A run that waits for nobody."""
    made: str = opened("operator").post("/runs", json={"plan": PLAN}).json()["id"]
    return made


def test_no_read_takes_a_name_in_its_query_that_it_does_not_have(opened: Opened, run: str) -> None:
    admin = opened("admin")
    wrong = {
        path: admin.get(path.replace("{run}", run), params={"stat": "failed"}) for path in READS if path != "/livez"
    }

    kept = {path: answer.status_code for path, answer in wrong.items() if answer.status_code != 422}
    assert kept == {}
    assert len(wrong) > 35
    told = wrong["/runs"].json()
    assert _misfit(wrong["/runs"]) == (422, "misfit", {"query.stat": "unknown_parameter"})
    assert told["detail"] == "query.stat: there is none: did you mean 'state'?"


def test_a_page_takes_a_cursor_and_a_stream_a_place_and_neither_the_others(opened: Opened, run: str) -> None:
    client = opened("viewer")

    for path in (f"/runs/{run}/logs", f"/runs/{run}/events"):
        page, stream = client.get(path, params={"after": "1"}), client.get(path, params={"cursor": "1"}, headers=STREAM)
        assert _misfit(page) == (422, "misfit", {"query.after": "unknown_parameter"})
        assert _misfit(stream) == (422, "misfit", {"query.cursor": "unknown_parameter"})


@pytest.mark.parametrize("path", ["/runs", "/events", "/plans", "/webhooks", "/dead-letters", "/gates"])
@pytest.mark.parametrize(("value", "code"), [("x%00y", "not_a_text"), ("%ff", "not_a_text"), ("a b", "not_a_name")])
def test_a_project_that_is_none_is_refused_before_a_stream_begins(
    opened: Opened, path: str, value: str, code: str
) -> None:
    headers = STREAM if path == "/events" else {}

    refused = opened("viewer").get(f"{path}?project={value}", headers=headers)

    assert _misfit(refused) == (422, "misfit", {"query.project": code})


def test_a_text_that_cannot_be_stored_is_the_callers_wherever_it_stands(opened: Opened, run: str) -> None:
    client = opened("operator")

    answers = [
        client.get("/runs?name=a%00"),
        client.get("/budgets?directive=a%00/b"),
        client.post("/runs/cancel", json={"name": "a\0b", "dry_run": True}),
        client.post(f"/runs/{run}/guide", json={"text": "go", "why": "a\0b"}),
    ]

    assert {answer.status_code for answer in answers} <= {400, 422}
    assert {answer.json()["code"] for answer in answers} <= {"usage", "misfit"}


def test_a_body_is_json_in_utf_8_as_it_is(opened: Opened) -> None:
    client, body = opened("operator"), json.dumps({"plan": PLAN}).encode()

    def post(content: bytes, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post("/runs/check", content=content, headers=named)

    refused = [
        post(body),
        post(body, content_type="application/x-www-form-urlencoded"),
        post(body, content_type="application/json; charset=utf-16"),
        post(gzip.compress(body), content_type="application/json", content_encoding="gzip"),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(415, "unsupported_media_type")] * 4
    assert "Content-Type: application/json" in refused[0].json()["detail"]
    for kind in ("application/json", 'Application/JSON; charset="UTF-8"', "application/merge-patch+json"):
        assert post(body, content_type=kind).status_code == 200


def test_a_body_that_cannot_be_read_is_told_where_and_why(opened: Opened) -> None:
    client = opened("operator")
    told = {
        body: client.post("/runs", content=body, headers=JSON)
        for body in (
            b'{"plan": }',
            b'{"plan": "a", "plan": "b"}',
            b'{"plan": 5}',
            b'{"plan": NaN}',
            b"5",
            b'{"vars": 5}',
        )
    }

    assert {answer.status_code for answer in told.values()} == {422}
    said = [answer.json()["detail"] for answer in told.values()]
    assert said == [
        "body: is no JSON: line 1, column 10: expecting value",
        "body: the key 'plan' stands twice in one object",
        "body.plan: takes a document or a name",
        "body: holds NaN, Infinity or a number that is too large",
        "body: takes an object",
        "body.plan: is missing; body.vars: takes an object",
    ]
    assert told[b'{"plan": }'].json()["faults"][0]["column"] == 10


@pytest.mark.parametrize(
    ("verb", "body", "said"),
    [
        ("pause", {"now": "yes"}, "body.now: takes true or false"),
        ("budget", {"tokens": True}, "body.tokens: takes a whole number"),
        ("budget", {"tokens": "12"}, "body.tokens: takes a whole number"),
        ("budget", {"tokens": 5.0}, "body.tokens: takes a whole number"),
        ("budget", {"usd": True}, "body.usd: takes a number or a text"),
        ("override", {"step": "a", "why": "x", "skip": 1}, "body.skip: takes true or false"),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_made_into_one(
    opened: Opened, run: str, verb: str, body: dict[str, Any], said: str
) -> None:
    refused = opened("operator").post(f"/runs/{run}/{verb}", json=body)

    assert (refused.status_code, refused.json()["detail"]) == (422, said)


@pytest.mark.parametrize("body", [{"limit": True, "all": True}, {"all": "yes"}, {"all": True, "dry_run": "false"}])
def test_no_run_is_ended_by_a_value_of_another_type(opened: Opened, run: str, body: dict[str, Any]) -> None:
    client = opened("operator")

    assert client.post("/runs/cancel", json=body).status_code == 422
    assert client.get(f"/runs/{run}").json()["state"] not in ("cancelled", "cancelling")


def test_a_verb_that_need_be_told_nothing_takes_no_body(opened: Opened, run: str) -> None:
    client = opened("operator")

    assert client.post(f"/runs/{run}/pause").status_code == 202
    assert client.post(f"/runs/{run}/retry").json()["code"] == "invalid_transition"
    assert client.post(f"/runs/{run}/approve").json()["code"] == "invalid_transition"


def test_what_takes_no_body_does_nothing_when_it_is_sent_one(opened: Opened, run: str) -> None:
    client = opened("operator")

    refused = client.post(f"/runs/{run}/cancel", json={"dry_run": True})
    state = client.get(f"/runs/{run}").json()["state"]
    done = client.post(f"/runs/{run}/cancel", json={})

    assert _misfit(refused) == (422, "misfit", {"body": "no_body"})
    assert (state, done.status_code) == ("running", 202)


def test_the_founding_paths_refuse_bodies_in_their_own_shape(api: Api, opened: Opened) -> None:
    key = opened("operator").headers["Authorization"]
    url = f"{api.url}/api/agent-runs/"

    def launch(content: bytes, kind: str = "application/json") -> tuple[int, list[str]]:
        answer = httpx2.post(f"{url}launch/", content=content, headers={"Content-Type": kind, "Authorization": key})
        return answer.status_code, list(answer.json())

    for content in (b"{", b'{"operator_goal": " "}', b'{"operator_goal": "a", "operator_goal": "b"}'):
        assert launch(content) == (400, ["error"])
    assert launch(b"operator_goal=a", "application/x-www-form-urlencoded") == (400, ["error"])
    assert httpx2.get(f"{url}?format=json", headers={"Authorization": key}).status_code == 200


def test_who_may_not_ask_is_told_that_and_nothing_of_the_body_is_read(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: bytes) -> Any:
        raise AssertionError("the body was read")

    monkeypatch.setattr(intake, "read_json", read)

    refused = opened("viewer").post("/runs?nonsense=1", content=b'{"plan": 5', headers=JSON)

    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")


def test_a_large_body_is_read_in_a_thread(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    where: dict[int, bool] = {}
    read = intake.read_json

    def noted(body: bytes) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            where[len(body)] = True
        else:
            where[len(body)] = False
        return read(body)

    monkeypatch.setattr(intake, "read_json", noted)
    client = opened("operator")
    for size in (10, 100_000):
        assert client.post("/runs/check", json={"plan": PLAN, "vars": {}, "mode": "x" * size}).status_code == 400

    assert [in_thread for _, in_thread in sorted(where.items())] == [False, True]


def test_head_has_the_headers_of_get_and_no_body(opened: Opened, run: str, api: Api) -> None:
    client, stranger = opened("admin"), httpx2.Client(base_url=api.url)
    paths = [path.replace("{run}", run) for path in READS if "{" not in path.replace("{run}", "")]
    changing = {"date", "content-length", "etag"}  # what is told may change between the two

    for path in (each for each in paths if each != "/livez"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers.keys() == got.headers.keys(), path
        for name in set(got.headers) - changing:
            assert head.headers[name] == got.headers[name], (path, name)
    assert stranger.head("/livez").status_code == 200
    assert stranger.head(f"{openapi.BASE}/runs").status_code == 401
    page = client.head(f"/runs/{run}/events", headers=STREAM)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "application/json")
    assert client.head("/events", headers=STREAM).status_code == 406
    assert client.head(f"/runs/{run}/cancel").status_code == 405
    assert client.head(f"{api.url}/mcp").status_code == 405
    founding = stranger.head(f"/api/agent-runs/{run}/", headers={"Authorization": client.headers["Authorization"]})
    assert founding.status_code == 200


def test_a_place_above_every_event_is_refused_and_not_waited_at(opened: Opened, run: str) -> None:
    client = opened("viewer")

    for path in ("/events", f"/runs/{run}/events", f"/runs/{run}/logs"):
        refused = client.get(path, headers=STREAM | {"Last-Event-ID": "999999999"})
        assert (refused.status_code, refused.json()["code"]) == (400, "usage")
        assert "without Last-Event-ID" in refused.json()["detail"]
