"""Webhooks: what happens is told once and signed, again where that failed, and to nobody who must not be called."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from agentflow import AgentFlow, errors
from agentflow.domain.webhook import Delivery, EventType
from agentflow.embedded import ServerUrls
from agentflow.engine import installation
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.pause import pause
from agentflow.engine.queue_webhooks import WebhookQueue
from agentflow.engine.resume import resume
from agentflow.engine.send_webhook import ping_webhook, settle
from agentflow.engine.webhook_sender import CALLS, WebhookSender
from agentflow.executors.webhook_call import Answered
from agentflow.runtime import Runtime
from agentflow.storage import webhooks
from agentflow.storage.database import statement, to_json
from agentflow.storage.webhooks import NewDelivery
from tests.conftest import _administrate, _settings
from tests.factories import noop_step, shell_step, submitted, work_off
from tests.http_service import OK, HttpService, Received, answer
from tests.integration.client.conftest import environment_of
from tests.unit.cli.answers import check

SENDER = """
from agentflow import runtime
from agentflow.engine.webhook_sender import WebhookSender
WebhookSender(runtime.current().context, "tester@test").work()
"""


@pytest.fixture(scope="module")
def house(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One installation for all tests of the module: each has a plan of its own, and webhooks for it only."""
    name = f"webhooks_{os.getpid()}"
    _administrate(servers.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    settings = _settings(servers, name, tmp_path_factory.mktemp("webhooks"), prefix=f"{name}:")
    house = Runtime(settings.model_copy(update={"http_private_hosts": ("127.0.0.1",)}))
    installation.install(house.context.database, house.context.store, house.context.audit_key)
    yield house
    house.close()
    _administrate(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@dataclass
class Desk:
    """A client, a plan of the test's own, and what it made."""

    house: Runtime
    flow: AgentFlow
    plan: str

    def subscribe(self, service: HttpService, name: str = "ops", **options: Any) -> str:
        """Have a service told; returns the secret."""
        made = self.flow.create_webhook(
            f"{name}-{self.plan}", f"{service.url}hook?token=t0ken", **{"plan": self.plan, **options}
        )
        return made.secret

    def run(self, *steps: Any, **fields: Any) -> str:
        """Run a plan in this process, to its end or until it rests."""
        run_id = submitted(self.house.context, list(steps) or [noop_step("a")], name=self.plan, **fields)
        work_off(self.house, run_id)
        return str(run_id)

    def work(self, **options: Any) -> WebhookSender:
        """Tell all that is due."""
        sender = WebhookSender(self.house.context, "tester@test", **options)
        sender.work()
        return sender

    def deliveries(self, name: str = "ops", **wanted: Any) -> list[Delivery]:
        """What became of it, the newest first."""
        return list(self.flow.webhook_deliveries(f"{name}-{self.plan}", **wanted).deliveries)

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Ask or change the database behind everybody's back."""
        with self.house.context.database.transaction() as tx:
            done = tx.execute(text(statement), parameters)
            return list(done.all()) if done.returns_rows else []

    def insert(self, new: list[NewDelivery]) -> None:
        """Let webhooks be told something that no event told."""
        with self.house.context.database.transaction() as tx:
            webhooks.insert_deliveries(tx, new)

    def let_time_pass(self) -> None:
        """Let everything that waits be due."""
        self.sql("UPDATE webhook_delivery SET next_at = now() WHERE state = 'pending'")


@pytest.fixture
def desk(house: Runtime) -> Iterator[Desk]:
    """A desk whose webhooks go with the test."""
    with AgentFlow(house.settings) as flow:
        desk = Desk(house, flow, f"p{secrets.token_hex(4)}")
        yield desk
        for webhook in flow.webhooks():
            flow.remove_webhook(webhook.id)


def verified(secret: str, request: Received) -> dict[str, Any]:
    """Check a message by the words of the Standard Webhooks alone, and return what it says."""
    assert secret.startswith("whsec_")
    signed = b".".join(
        [request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), request.body]
    )
    mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert f"v1,{base64.b64encode(mac).decode()}" in request.headers["webhook-signature"].split(" ")
    body: dict[str, Any] = check(json.loads(request.body), "webhook-event")
    assert body["id"] == request.headers["webhook-id"]
    return body


def test_what_happens_to_a_run_is_told_signed_and_in_codes_only(desk: Desk) -> None:
    with HttpService() as service:
        secret = desk.subscribe(service, on=["run.submitted", "run.failed", "step.failed"])
        run_id = desk.run(noop_step("fine"), shell_step("b", "echo s3ntinel; exit 3", needs=["fine"]))
        desk.work()

    told = {body["type"]: body for body in (verified(secret, request) for request in service.requests)}

    assert set(told) == {"run.submitted", "run.failed", "step.failed"}
    assert told["step.failed"]["step"] == "b"
    run = told["run.failed"]["run"]
    assert (run["id"], run["name"], run["project"]) == (run_id, desk.plan, "default")
    assert (run["state"], run["reason"], run["steps"]) == ("failed", "step_failed", {"failed": 1, "succeeded": 1})
    assert b"s3ntinel" not in b"".join(request.body for request in service.requests)
    assert [request.line for request in service.requests] == ["POST /hook?token=t0ken HTTP/1.1"] * 3
    assert {each.state for each in desk.deliveries()} == {"delivered"}


def test_what_waits_for_a_person_is_told(desk: Desk) -> None:
    on = ["gate.opened", "gate.decided", "run.paused", "run.resumed", "run.completed"]
    with HttpService() as service:
        secret = desk.subscribe(service, on=on)
        run_id = desk.run(noop_step("a"), {"id": "gate", "needs": ["a"], "approval": {}})
        pause(desk.house.context, desk.flow.get(run_id).uuid, "me")  # type: ignore[arg-type]  # a run's id is one
        resume(desk.house.context, desk.flow.get(run_id).uuid, "me")  # type: ignore[arg-type]  # as above
        desk.flow.acting_as("boss").get(run_id).approve("gate")
        desk.work()

    told = [verified(secret, request) for request in service.requests]

    assert sorted((body["type"], body.get("step")) for body in told) == [
        ("gate.decided", "gate"),
        ("gate.opened", "gate"),
        ("run.completed", None),
        ("run.paused", None),
        ("run.resumed", None),
    ]


def test_a_message_that_met_an_error_is_sent_again_as_it_was(desk: Desk) -> None:
    with HttpService(answer(500)) as service:
        secret = desk.subscribe(service)
        desk.run()
        desk.work()
        [before] = desk.deliveries()
        service.answer = OK
        desk.work()  # it is not due yet
        assert len(service.requests) == 1
        desk.let_time_pass()
        desk.work()

    first, second = service.requests
    [delivery] = desk.deliveries()

    assert (before.state, before.problem, before.last_status) == ("pending", "server_error", 500)
    assert before.next_at is not None
    assert before.last_at is not None
    assert 4 < (before.next_at - before.last_at).total_seconds() < 6
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(delivery.id)
    assert first.body == second.body
    assert verified(secret, second)["type"] == "run.completed"
    assert (delivery.state, delivery.attempts, delivery.last_status, delivery.problem) == ("delivered", 2, 200, None)


def test_one_that_hangs_holds_up_nobody_else(desk: Desk) -> None:
    """It has more to be told than there are calls at once; what another is told goes out meanwhile."""
    waited: list[bool] = []

    def answer_and_release(connection: socket.socket) -> None:
        connection.sendall(OK)
        slow.released.set()

    with HttpService() as slow, HttpService(answer_and_release) as quick:
        slow.answer = lambda _: waited.append(slow.released.wait(20))
        desk.subscribe(slow, "slow")
        [webhook] = desk.flow.webhooks()
        desk.insert([NewDelivery(uuid4(), webhook.id, EventType.PING, "{}") for _ in range(CALLS + 1)])
        desk.subscribe(quick, "quick")
        desk.run()
        desk.work()

    assert {each.state for each in desk.deliveries("quick")} == {"delivered"}
    assert waited
    assert all(waited)


def test_one_that_does_not_answer_is_given_up_in_its_time(desk: Desk) -> None:
    with HttpService() as service:
        service.answer = service.wait_for_hang_up
        desk.subscribe(service)
        desk.run()
        desk.work(timeout_seconds=0.2)

    [delivery] = desk.deliveries()
    assert (delivery.state, delivery.problem, delivery.last_status) == ("pending", "timed_out", None)


def test_a_call_that_could_not_be_made_is_a_try(desk: Desk) -> None:
    """Whatever the reason: it is told, tried less and less often, and given up in the end."""
    with HttpService() as service:
        desk.subscribe(service)
        desk.run()
        WebhookSender(replace(desk.house.context, audit_key=None), "tester@test").work()  # type: ignore[arg-type]  # it cannot sign

    [delivery] = desk.deliveries()
    assert (delivery.state, delivery.problem, delivery.attempts) == ("pending", "not_called", 1)


def test_calls_under_way_count_for_what_a_webhook_may_have_at_once(desk: Desk) -> None:
    with HttpService() as service:
        desk.subscribe(service)
        [webhook] = desk.flow.webhooks()
        desk.insert([NewDelivery(uuid4(), webhook.id, EventType.PING, "{}") for _ in range(5)])
        with desk.house.context.database.transaction() as tx:
            assert len(webhooks.claim(tx, [webhook.id, webhook.id], 3, CALLS, 60)) == 1
            assert webhooks.claim(tx, [webhook.id] * 4, 3, CALLS, 60) == []
            assert len(webhooks.claim(tx, ["another"], 3, CALLS, 60)) == 3


def test_a_redirect_is_not_followed(desk: Desk) -> None:
    with HttpService() as elsewhere, HttpService(answer(307, Location=elsewhere.url)) as service:
        desk.subscribe(service)
        desk.run()
        desk.work()

    [delivery] = desk.deliveries()
    assert (delivery.last_status, delivery.problem, delivery.state) == (307, "bad_status", "pending")
    assert not elsewhere.requests


def test_one_that_is_gone_is_disabled_and_others_are_told(desk: Desk) -> None:
    with HttpService(answer(410)) as gone, HttpService() as alert:
        desk.subscribe(gone)
        secret = desk.subscribe(alert, "alert", on=["webhook.disabled"], plan=None)
        desk.run()
        desk.work()
        desk.work()

        [body] = [verified(secret, request) for request in alert.requests]
        webhook = desk.flow.webhook(f"ops-{desk.plan}")
        desk.run()
        desk.work()
        assert len(gone.requests) == 1
        desk.flow.enable_webhook(webhook.id)
        gone.answer = OK
        desk.run()
        desk.work()

    assert body["webhook"] == {"id": webhook.id, "reason": "gone"}
    assert (webhook.is_enabled, webhook.disabled_code, webhook.disabled_by) == (False, "gone", "tester@test")
    assert [each.state for each in desk.deliveries()] == ["delivered", "failed"]  # nothing of what was while disabled
    [event] = desk.sql(
        "SELECT facts FROM audit_event WHERE action = 'disable_webhook' AND subject = :subject",
        subject=f"webhook:{webhook.name}",
    )
    assert event.facts["code"] == "gone"


def test_one_that_failed_for_days_is_disabled(desk: Desk) -> None:
    with HttpService(answer(503, Retry_After="7200")) as service:
        desk.subscribe(service)
        desk.run()
        desk.work()
        [delivery] = desk.deliveries()
        assert delivery.next_at is not None
        assert delivery.last_at is not None
        assert (delivery.next_at - delivery.last_at).total_seconds() == pytest.approx(7200, abs=1)
        assert desk.flow.webhook(f"ops-{desk.plan}").failing_since is not None

        desk.sql("UPDATE webhook SET failing_since = now() - interval '5 days 1 second'")
        desk.let_time_pass()
        desk.work()

    assert desk.flow.webhook(f"ops-{desk.plan}").disabled_code == "failing"


def test_no_private_address_is_called_that_was_not_allowed(desk: Desk) -> None:
    shut = AgentFlow(desk.house.settings.model_copy(update={"http_private_hosts": ()}))
    with HttpService() as service, shut:
        url = service.url.replace("127.0.0.1", "localhost")
        for private in (service.url, url):
            with pytest.raises(errors.UsageError, match="private address"):
                shut.create_webhook("x", private)
        desk.flow.create_webhook(f"ops-{desk.plan}", url, plan=desk.plan)  # where it is made it may be called
        desk.run()
        WebhookSender(replace(desk.house.context, settings=shut.settings), "tester@test").work()

    [delivery] = desk.deliveries()
    assert (delivery.problem, delivery.last_status) == ("private_address", None)
    assert not service.requests


def test_what_a_killed_sender_sent_is_sent_again_under_the_same_id(desk: Desk) -> None:
    """It dies after the other side took the message and before that is written down."""
    started: list[subprocess.Popen[bytes]] = []

    def kill(connection: socket.socket) -> None:
        if len(service.requests) == 1:
            started[0].send_signal(signal.SIGKILL)
            started[0].wait(20)
        connection.sendall(OK)

    with HttpService(kill) as service:
        secret = desk.subscribe(service)
        desk.run()
        environment = environment_of(desk.house.settings) | {"AGENTFLOW_HTTP_PRIVATE_HOSTS": "127.0.0.1"}
        started.append(subprocess.Popen([sys.executable, "-c", SENDER], env=os.environ | environment))
        assert started[0].wait(60) == -signal.SIGKILL
        [left] = desk.deliveries()
        desk.work()
        assert len(service.requests) == 1  # it is still the dead one's
        desk.let_time_pass()
        desk.work()

    first, second = (verified(secret, request) for request in service.requests)
    [delivery] = desk.deliveries()
    assert (left.state, left.attempts, left.last_at) == ("pending", 1, None)
    assert first == second
    assert (delivery.state, delivery.attempts) == ("delivered", 2)


def test_a_try_that_was_overtaken_changes_nothing(desk: Desk) -> None:
    """Its sender stood still for longer than its lease, and another one delivered meanwhile."""
    with HttpService() as service:
        desk.subscribe(service)
        desk.run()
        WebhookQueue(desk.house.context).queue()
        with desk.house.context.database.transaction() as tx:
            [slow] = webhooks.claim(tx, [], 1, 1, 60)
        desk.let_time_pass()
        desk.work()
        settle(desk.house.context, slow, Answered(500, "server_error"), "tester@test")
        desk.work()

    assert len(service.requests) == 1
    [delivery] = desk.deliveries()
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 2, 200)


def test_two_senders_at_once_send_each_message_once(desk: Desk) -> None:
    with HttpService() as service:
        desk.subscribe(service)
        [webhook] = desk.flow.webhooks()
        new = [NewDelivery(uuid4(), webhook.id, EventType.PING, "{}") for _ in range(40)]
        desk.insert(new)
        for _ in range(3):
            desk.run()
        barrier = threading.Barrier(2)

        def work() -> None:
            barrier.wait(10)
            desk.work()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    ids = [request.headers["webhook-id"] for request in service.requests]
    assert len(ids) == len(set(ids)) == 43
    assert {str(each.id) for each in new} < set(ids)
    assert {each.attempts for each in desk.deliveries(limit=100)} == {1}


def test_an_event_that_is_committed_late_is_told_all_the_same(desk: Desk) -> None:
    """Its id was given before that of an event that was seen long ago."""
    with HttpService() as service:
        secret = desk.subscribe(service, on=["run.failed", "run.completed"])
        late_run = submitted(desk.house.context, [{"id": "gate", "approval": {}}], name=desk.plan)
        queue = WebhookQueue(desk.house.context)
        with desk.house.context.database.transaction() as late:
            [place] = late.execute(text("SELECT event_sequence FROM run_state WHERE run_id = :id"), {"id": late_run})
            event = {"run_id": late_run, "sequence": place.event_sequence + 1, "actor": "me", "action": "finalize"}
            told = {"moved": to_json({"run": ["running", "failed"]}), "reason": None, "verdict": None, "facts": "{}"}
            at = late.execute(text("SELECT now()")).scalar_one()
            late.execute(statement("append_run_event"), {**event, **told, "at": at, "subject": "run", "mac": b"m"})
            early_run = desk.run()
            queue.queue()
            queue.queue()
        queue.queue()
        queue.queue()
        desk.work()

    runs = [verified(secret, request)["run"]["id"] for request in service.requests]
    assert sorted(runs) == sorted([str(late_run), early_run])


def test_only_what_was_asked_for_is_told(desk: Desk) -> None:
    with HttpService() as service:
        desk.subscribe(service, "types", on=["run.failed"])
        desk.subscribe(service, "project", project="other")
        desk.subscribe(service, "plan", plan="another")
        desk.subscribe(service, "ours", project="default", on=["run.completed"])
        desk.run()
        desk.work()

    assert len(service.requests) == 1
    assert [len(desk.deliveries(name)) for name in ("types", "project", "plan", "ours")] == [0, 0, 0, 1]


def test_a_changed_secret_and_the_one_before_are_both_signed_with(desk: Desk) -> None:
    with HttpService() as service:
        old = desk.subscribe(service)
        new = desk.flow.rotate_webhook(f"ops-{desk.plan}").secret
        desk.run()
        desk.work()
        desk.sql("UPDATE webhook SET previous_until = now()")
        desk.run()
        desk.work()

    both, single = service.requests
    verified(old, both)
    verified(new, both)
    verified(new, single)
    assert old != new
    with pytest.raises(AssertionError):
        verified(old, single)


def test_secrets_and_addresses_stand_where_they_must_only(desk: Desk) -> None:
    with HttpService() as service:
        secret = desk.subscribe(service)
        new = desk.flow.rotate_webhook(f"ops-{desk.plan}").secret
    every = str(desk.sql("SELECT * FROM webhook")) + str(desk.sql("SELECT * FROM audit_event"))
    audited = str(desk.sql("SELECT facts, subject FROM audit_event"))

    for each in (secret, new):
        key = each.removeprefix("whsec_")
        assert key not in every
        assert repr(base64.b64decode(key))[2:-1] not in every
    assert "t0ken" not in audited
    assert f"webhook:ops-{desk.plan}" in audited


def test_what_was_given_up_is_sent_again_when_asked_for(desk: Desk) -> None:
    with HttpService(answer(500)) as service:
        secret = desk.subscribe(service)
        desk.run()
        for _ in range(9):
            desk.work()
            desk.let_time_pass()
        [given_up] = desk.deliveries()
        desk.work()
        assert len(service.requests) == 9
        service.answer = OK

        name = f"ops-{desk.plan}"
        assert desk.flow.replay_webhook(name, failed_since="1h") == [given_up.id]
        desk.work()
        assert desk.flow.replay_webhook(name, [given_up.id]) == [given_up.id]  # also what arrived
        desk.work()
        assert not desk.flow.replay_webhook(name, failed_since="1h")
        with pytest.raises(errors.NotFound, match="no such delivery"):
            desk.flow.replay_webhook(name, [given_up.id, UUID(int=7)])

    assert (given_up.state, given_up.attempts) == ("failed", 9)
    assert len({request.headers["webhook-id"] for request in service.requests}) == 1
    assert verified(secret, service.requests[-1])["type"] == "run.completed"
    [delivery] = desk.deliveries()
    assert (delivery.state, delivery.attempts) == ("delivered", 11)


def test_what_waits_for_its_next_try_is_sent_again_when_asked_for(desk: Desk) -> None:
    with HttpService(answer(500)) as service:
        desk.subscribe(service)
        desk.run()
        desk.work()
        name = f"ops-{desk.plan}"
        assert desk.flow.replay_webhook(name, failed_since="1h") == []  # it comes in seconds anyhow
        for _ in range(2):
            desk.let_time_pass()
            desk.work()
        service.answer = OK
        [waiting] = desk.deliveries()

        assert desk.flow.replay_webhook(name, failed_since="1h") == [waiting.id]
        desk.work()
        [delivered] = desk.deliveries()

    assert (waiting.state, waiting.attempts) == ("pending", 3)
    assert (delivered.state, delivered.attempts) == ("delivered", 4)


def test_a_ping_is_sent_at_once_and_its_answer_told(desk: Desk) -> None:
    with HttpService() as service:
        secret = desk.subscribe(service)
        told = desk.flow.test_webhook(f"ops-{desk.plan}")
        [body] = [verified(secret, request) for request in service.requests]
        service.answer = answer(404)
        failed = desk.flow.test_webhook(f"ops-{desk.plan}")

    assert body["type"] == "ping"
    assert (told.state, told.last_status) == ("delivered", 200)
    assert (failed.state, failed.last_status, failed.problem, failed.next_at) == ("failed", 404, "not_found", None)


def test_a_webhook_that_is_removed_while_it_is_tried_is_not_found(desk: Desk) -> None:
    with HttpService() as service:
        desk.subscribe(service)
        [webhook] = desk.flow.webhooks()

        def remove(connection: socket.socket) -> None:
            desk.flow.remove_webhook(webhook.id)
            connection.sendall(OK)

        service.answer = remove
        for _ in ("during the call", "before it"):
            with pytest.raises(errors.NotFound):
                ping_webhook(desk.house.context, webhook, "tester@test")


def test_history_is_bounded(desk: Desk) -> None:
    with HttpService() as service:
        desk.subscribe(service)
        for _ in range(4):
            desk.run()
        desk.work()
        service.answer = answer(500)
        desk.run()
        desk.work()
    desk.sql("UPDATE webhook_delivery SET created_at = created_at - interval '20 days' WHERE state = 'pending'")

    with desk.house.context.database.transaction() as tx:
        assert webhooks.prune(tx, 14 * 86_400, 3, 100) == 1  # the oldest; what waits is kept however old it is
        assert webhooks.prune(tx, 14 * 86_400, 3, 100) == 0
        assert webhooks.prune(tx, 0, 3, 2) == 2  # as many as are asked for
    assert sorted(each.state for each in desk.deliveries()) == ["delivered", "pending"]


def test_the_leading_dispatcher_sends_and_ends_soon_though_somebody_hangs(desk: Desk) -> None:
    hung = threading.Event()

    def hang(connection: socket.socket) -> None:
        hung.set()
        service.wait_for_hang_up(connection)

    with HttpService(hang) as service:
        desk.subscribe(service)
        desk.run()
        stopping = threading.Event()
        dispatcher = Dispatcher(desk.house.context, "d1")
        thread = threading.Thread(target=dispatcher.run, args=(stopping,))
        thread.start()
        assert hung.wait(30)
        stopping.set()
        desk.house.context.side_channel.wake()
        thread.join(30)
        assert not thread.is_alive()
        assert service.hung_up.wait(10)

    [delivery] = desk.deliveries()
    assert (delivery.state, delivery.attempts, delivery.last_at) == ("pending", 1, None)


Make = Callable[[], Any]


def test_what_is_asked_wrongly_is_refused_in_words(desk: Desk) -> None:
    flow, url = desk.flow, "https://example.org/hook"
    flow.create_webhook("one", url)
    flow.create_webhook("one", url, project="ops")
    wrong: dict[str, Make] = {
        "run.ended.* is nothing to be told of": lambda: flow.create_webhook("x", url, on=["run.ended", "run.failed"]),
        "one or more of": lambda: flow.create_webhook("x", url, on=[]),
        "no name of a webhook": lambda: flow.create_webhook("a b", url),
        "such as https": lambda: flow.create_webhook("x", "ftp://example.org/"),
        "without a user": lambda: flow.create_webhook("x", "https://me:pw@example.org/"),
        "fragment": lambda: flow.create_webhook("x", url + "#top"),
        "169.254.169.254/ is a private": lambda: flow.create_webhook("x", "http://169.254.169.254/latest"),
        "several webhooks 'one'": lambda: flow.webhook("one"),
        "no state of a delivery": lambda: flow.webhook_deliveries("one", project="ops", state="sent"),
        "Give the ids": lambda: flow.replay_webhook("one", project="ops"),
        "failed_since": lambda: flow.replay_webhook("one", project="ops", failed_since="yesterday"),
    }
    for words, make in wrong.items():
        with pytest.raises(errors.UsageError, match=words):
            make()
    with pytest.raises(errors.InvalidTransition, match="already"):
        flow.create_webhook("one", url)
    with pytest.raises(errors.InvalidTransition, match="enabled already"):
        flow.enable_webhook("one", project="ops")
    with pytest.raises(errors.NotFound, match="one"):
        flow.webhook("ome")
