"""The written form of a notify step."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.action import NotifyAction
from agentflow.domain.notify_document import MAX_RECIPIENTS, is_address
from agentflow.domain.plan_document import PlanReading, read_plan
from tests.factories import document

ACTIONS = ("subprocess", "llm", "notify")
ASK = {"id": "ask", "llm": {"model": "a:b", "prompt": "p"}}


def _read(notify: Any, **fields: Any) -> PlanReading:
    step = {"id": "n", "needs": ["ask"], "notify": notify}
    return read_plan(document([ASK, step], **fields), available_actions=ACTIONS)


@pytest.mark.parametrize(
    ("written", "action"),
    [
        ({"webhook": "https://hooks.example.org/x"}, NotifyAction(webhook="https://hooks.example.org/x")),
        ({"webhook": "{{ secrets.HOOK }}"}, NotifyAction(webhook="{{ secrets.HOOK }}")),
        ({"email": "a@example.org"}, NotifyAction(email=("a@example.org",))),
        ({"email": ["a@example.org", "{{ vars.who }}"]}, NotifyAction(email=("a@example.org", "{{ vars.who }}"))),
        ({"command": ["./tell", 1]}, NotifyAction(command=("./tell", "1"))),
    ],
)
def test_it_tells_a_webhook_a_mailbox_or_a_command(written: Any, action: NotifyAction) -> None:
    reading = _read(written, vars={"who": "b@example.org"}, secrets=["HOOK"])

    assert reading.plan is not None, reading.faults
    assert reading.plan.steps[1].action == action


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ({}, "bad_value"),
        ({"webhook": "https://x.example", "email": "a@example.org"}, "bad_value"),
        ({"webhook": "ftp://x.example"}, "bad_url"),
        ({"webhook": "https://user:word@x.example"}, "bad_url"),
        ({"email": "Ann <a@example.org>"}, "bad_value"),
        ({"email": "a@example.org\nBcc: b@example.org"}, "bad_value"),
        ({"email": []}, "bad_value"),
        ({"email": [f"a{number}@example.org" for number in range(MAX_RECIPIENTS + 1)]}, "bad_value"),
        ({"command": []}, "empty_command"),
        ({"command": "tell it"}, "wrong_type"),
        ({"mail": "a@example.org"}, "unknown_field"),
        ({"webhook": "https://{{ steps.ask.text }}/"}, "llm_output_in_address"),
        ({"email": ["{{ steps.ask.text }}"]}, "llm_output_in_address"),
        ({"command": ["tell", "{{ steps.ask.text }}"]}, "llm_output_in_command"),
    ],
)
def test_what_cannot_be_told_is_a_fault(written: Any, code: str) -> None:
    reading = _read(written)

    assert reading.plan is None
    assert code in {fault.code for fault in reading.faults}


@pytest.mark.parametrize("text", ["a@b", "first.last+tag@mail.example.org"])
def test_plain_addresses_are_taken(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", ["", "a", "@b", "a@", "a b@c", "a@b\n", "ä@example.org", "a@b.", "a@b@c"])
def test_others_are_none(text: str) -> None:
    assert not is_address(text)
