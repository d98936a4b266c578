"""Webhooks over the API: an admin changes them, a viewer looks, and the key of a project knows of its own only."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from agentflow.settings import Settings
from tests.http_service import HttpService
from tests.integration.api.conftest import BASE, Api
from tests.unit.cli.answers import check

Opened = Callable[..., httpx2.Client]
URL = "https://example.org/hooks/s3cret"


@pytest.fixture
def api_settings(api_settings: Settings) -> Settings:
    """Settings under which a service of this machine may be told."""
    return api_settings.model_copy(update={"http_private_hosts": ("127.0.0.1",)})


def test_a_webhook_is_made_tried_stopped_and_forgotten(api: Api, opened: Opened) -> None:
    admin = opened("admin")
    with HttpService() as service:
        made = admin.post("/webhooks", json={"name": "ops", "url": service.url, "on": ["run.failed"]})
        where = made.headers["Location"].removeprefix(BASE)
        ping = admin.post(f"{where}/test")
        [request] = service.requests

    told = check(made.json())
    assert (made.status_code, told["on"], told["project"]) == (201, ["run.failed"], None)
    assert told["secret"].startswith("whsec_")
    assert (check(ping.json())["state"], ping.json()["last_status"]) == ("delivered", 200)
    assert request.headers["webhook-id"] == ping.json()["id"]
    [delivery] = check(admin.get("/webhooks/ops/deliveries").json())["deliveries"]
    assert delivery == {name: value for name, value in ping.json().items() if name != "schema"}
    again = admin.post("/webhooks/ops/replay", json={"deliveries": [delivery["id"]]})
    assert (again.status_code, check(again.json())["deliveries"]) == (202, [delivery["id"]])
    assert admin.get(again.headers["Location"].removeprefix(BASE)).json()["deliveries"][0]["state"] == "pending"
    assert check(admin.post("/webhooks/ops/disable").json())["state"] == "disabled"
    assert admin.post("/webhooks/ops/disable").status_code == 409
    assert check(admin.post("/webhooks/ops/enable").json())["state"] == "enabled"
    assert check(admin.post("/webhooks/ops/rotate").json())["secret"] != told["secret"]
    assert "secret" not in check(admin.get("/webhooks/ops").json())
    assert check(admin.delete("/webhooks/ops").json())["name"] == "ops"
    assert admin.get("/webhooks/ops").status_code == 404


def test_a_key_of_one_project_has_its_own_webhooks_only(api: Api, opened: Opened) -> None:
    everywhere, ours = opened("admin"), opened("admin", project="ours")
    for project in ("theirs", None, "ours"):
        assert everywhere.post("/webhooks", json={"name": "ops", "url": URL, "project": project}).status_code == 201
    mine = ours.post("/webhooks", json={"name": "more", "url": URL})

    assert mine.json()["project"] == "ours"
    assert [(each["name"], each["project"]) for each in ours.get("/webhooks").json()["webhooks"]] == [
        ("more", "ours"),
        ("ops", "ours"),
    ]
    [theirs] = everywhere.get("/webhooks", params={"project": "theirs"}).json()["webhooks"]
    assert ours.get(f"/webhooks/{theirs['id']}").status_code == 404
    assert ours.delete(f"/webhooks/{theirs['id']}").status_code == 404
    assert ours.get("/webhooks", params={"project": "theirs"}).status_code == 403
    assert ours.post("/webhooks", json={"name": "x", "url": URL, "project": "theirs"}).status_code == 403
    assert ours.delete("/webhooks/ops").json()["project"] == "ours"
    assert len(everywhere.get("/webhooks").json()["webhooks"]) == 3


def test_only_an_admin_is_shown_the_whole_address(api: Api, opened: Opened) -> None:
    admin, viewer = opened("admin"), opened("viewer")
    admin.post("/webhooks", json={"name": "ops", "url": URL})

    assert admin.get("/webhooks/ops").json()["url"] == URL
    assert viewer.get("/webhooks/ops").json()["url"] == "https://example.org/"
    assert "s3cret" not in viewer.get("/webhooks").text


def test_a_secret_is_told_once_also_under_an_idempotency_key(api: Api, opened: Opened) -> None:
    admin, headers = opened("admin"), {"Idempotency-Key": "k1"}

    first = admin.post("/webhooks", json={"name": "ops", "url": URL}, headers=headers)
    second = admin.post("/webhooks", json={"name": "ops", "url": URL}, headers=headers)

    assert (second.status_code, second.json()["code"]) == (409, "idempotency_conflict")
    assert first.json()["secret"] not in second.text
    assert len(admin.get("/webhooks").json()["webhooks"]) == 1
