"""If-Match: a verb acts only on what its caller has seen, or does nothing; also where others act at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import httpx2
import pytest
from sqlalchemy import Connection, text

from agentflow.api.seen import names
from agentflow.domain.error import PreconditionFailed
from agentflow.domain.ids import RunId
from agentflow.engine.context import EngineContext
from agentflow.engine.guide import Guidance, guide
from agentflow.engine.signal import signal
from agentflow.runtime import Runtime
from agentflow.storage import precondition
from tests.factories import submitted
from tests.integration.api.conftest import Api

Opened = Callable[..., httpx2.Client]
GATED = {
    "agentflow": 1,
    "name": "seen",
    "budget": {"tokens": 100_000},
    "steps": [
        {"id": "g", "approval": {"message": "go on?", "allow_self": True}},
        {"id": "w", "needs": [], "wait": {"event": "go"}},
        {"id": "a", "needs": ["g"], "llm": {"model": "stub:m", "prompt": "hello", "max_tokens": 10}},
    ],
}
VERBS: list[tuple[str, dict[str, Any]]] = [
    ("cancel", {}),
    ("pause", {}),
    ("abort", {"why": "no"}),
    ("resume", {}),
    ("retry", {}),
    ("fork", {"from_step": "w"}),
    ("approve", {"step": "g"}),
    ("reject", {"step": "g", "why": "no"}),
    ("signal", {"name": "go"}),
    ("budget", {"tokens": 10}),
    ("guide", {"text": "be brief"}),
    ("override", {"step": "w", "why": "no", "skip": True}),
    ("modify", {"why": "now", "priority": 9}),
]


def _made(client: httpx2.Client) -> str:
    made = client.post("/runs", json={"plan": GATED})
    assert made.status_code == 201, made.text
    return f"/runs/{made.json()['id']}"


def test_no_verb_acts_on_what_its_caller_has_not_seen(api: Api, opened: Opened) -> None:
    client = opened("operator")
    path = _made(client)
    old = client.get(path).headers["ETag"]
    client.post(f"{path}/modify", json={"why": "first", "priority": 1}).raise_for_status()
    tag, events = client.get(path).headers["ETag"], client.get(f"{path}/events").json()["events"]
    assert old != tag

    for verb, body in VERBS:
        refused = client.post(f"{path}/{verb}", json=body, headers={"If-Match": old})
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed"), verb
        assert refused.json()["details"]["etag"] == tag

    assert client.get(f"{path}/events").json()["events"] == events
    assert client.get(path).headers["ETag"] == tag


def test_a_verb_acts_on_what_its_caller_has_seen(opened: Opened) -> None:
    client = opened("operator")
    for verb, body in VERBS:
        if verb in ("resume", "retry"):
            continue
        path = _made(client)
        tag = client.get(path).headers["ETag"]

        done = client.post(f"{path}/{verb}", json=body, headers={"If-Match": f'"other", {tag}'})
        again = client.post(f"{path}/{verb}", json=body, headers={"If-Match": tag})

        assert done.is_success, (verb, done.text)
        assert again.status_code == 412, verb


def test_of_many_who_saw_the_same_one_acts(opened: Opened) -> None:
    """A second priority would be taken without a word: nothing but the tag says that somebody was faster."""
    client = opened("operator")
    path = _made(client)
    tag = client.get(path).headers["ETag"]
    callers, together = [opened("operator") for _ in range(6)], Barrier(6)
    answers: list[int] = []

    def act(number: int) -> None:
        together.wait(30)
        said = {"why": "mine", "priority": number + 1}
        answers.append(callers[number].post(f"{path}/modify", json=said, headers={"If-Match": tag}).status_code)

    threads = [Thread(target=act, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(answers) == [200, 412, 412, 412, 412, 412]
    actions = [event["action"] for event in client.get(f"{path}/events").json()["events"]]
    assert actions.count("modify") == 1


def test_a_verb_that_locks_twice_is_not_refused_for_what_it_did_itself(opened: Opened) -> None:
    client = opened("operator")
    path = _made(client)
    client.post(f"{path}/pause", json={}).raise_for_status()
    tag = client.get(path).headers["ETag"]

    assert client.post(f"{path}/resume", headers={"If-Match": tag}).status_code == 200
    assert client.post(f"{path}/resume", headers={"If-Match": "*"}).json()["code"] == "invalid_transition"


def test_a_fork_is_made_of_what_was_seen_and_asked_for_again_is_the_same(opened: Opened) -> None:
    client = opened("operator")
    path = _made(client)
    tag = client.get(path).headers["ETag"]
    wanted = {"json": {"from_step": "w"}, "headers": {"If-Match": tag, "Idempotency-Key": "one"}}

    first, again = client.post(f"{path}/fork", **wanted), client.post(f"{path}/fork", **wanted)
    wanted["headers"]["Idempotency-Key"] = "another"
    other = client.post(f"{path}/fork", **wanted)

    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    assert other.status_code == 412, "the run has a fork since, which is shown of it"


def test_a_schedule_is_changed_only_as_it_was_seen(opened: Opened) -> None:
    client = opened("operator")
    client.post("/plans", json={"plan": {"agentflow": 1, "name": "p", "steps": [{"id": "a", "noop": {}}]}})
    assert client.post("/schedules", json={"name": "s", "plan": "p", "every": "1h"}).status_code == 201
    old = client.get("/schedules/s").headers["ETag"]
    fired = client.post("/schedules/s/run-now")
    assert client.get("/schedules/s").headers["ETag"] == old, "what the clock makes of it changes no tag"
    client.post("/schedules/s/pause").raise_for_status()

    refused = [client.post(f"/schedules/s/{verb}", headers={"If-Match": old}) for verb in ("pause", "resume")]
    refused += [
        client.delete("/schedules/s", headers={"If-Match": old}),
        client.post("/schedules/s/run-now", headers={"If-Match": old}),
        client.post("/schedules/s/backfill", json={"since": "2026-01-01T00:00"}, headers={"If-Match": old}),
    ]
    tag = client.get("/schedules/s").headers["ETag"]

    assert fired.status_code == 202
    assert [each.status_code for each in refused] == [412] * 5
    assert client.post("/schedules/s/run-now", headers={"If-Match": tag}).json()["code"] == "invalid_transition"
    assert client.delete("/schedules/s", headers={"If-Match": tag}).status_code == 200
    assert client.get("/schedules/s").status_code == 404


def test_what_is_no_tag_is_told(opened: Opened) -> None:
    client = opened("operator")
    refused = client.post(f"{_made(client)}/cancel", headers={"If-Match": "abc"})
    assert (refused.status_code, refused.json()["code"]) == (400, "usage")


@pytest.mark.parametrize(
    ("header", "strong", "weak"),
    [('"a"', True, True), ('W/"a"', False, True), ('"b", "a"', True, True), ('"ab"', False, False), ("*", True, True)],
)
def test_a_header_of_tags_names_what_it_names(header: str, strong: bool, weak: bool) -> None:
    assert names(header, '"a"') is strong
    assert names(header, '"a"', is_weak=True) is weak


def test_a_header_of_tags_is_gone_through_once() -> None:
    """What is not a tag behind a long gap would be looked for from each place of the gap."""
    header = '"a",' + " " * 1_000_000 + "x"
    assert names(header, '"a"')
    assert not names(header, '"b"')


def test_a_verb_that_looks_first_is_held_against_what_was_seen_when_it_acts(house: Runtime) -> None:
    """Both look at the run in a transaction of their own; what comes after that look must not pass unseen."""
    context = house.context
    for verb in (_guide, _signal):
        run_id = submitted(context, GATED["steps"], budget={"tokens": 100_000})
        looks: list[int] = []

        def changed_after_the_first_look(_tx: Connection, looks: list[int] = looks) -> None:
            looks.append(1)
            if len(looks) > 1:
                raise PreconditionFailed("changed", etag=None)

        with pytest.raises(PreconditionFailed), precondition.only_if(run_id, changed_after_the_first_look):
            verb(context, run_id)

        with context.database.transaction() as tx:
            done = tx.execute(text("SELECT action FROM audit_event WHERE run_id = :id"), {"id": run_id}).scalars().all()
        assert done == ["submit"]


def _guide(context: EngineContext, run_id: RunId) -> None:
    guide(context, Guidance(run_id, "be brief", None, "ana"))


def _signal(context: EngineContext, run_id: RunId) -> None:
    signal(context, run_id, "go", "ana")
