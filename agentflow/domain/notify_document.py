"""The written form of a ``notify`` step: exactly one of ``webhook``, ``email`` and ``command``.

Owns to whom a step may tell how its run stands. What it tells is engine/summarise's: counts, never content.
"""

from __future__ import annotations

import re

from agentflow.domain.action import NotifyAction
from agentflow.domain.action_reading import ON_THE_STEP, ActionReading, Place
from agentflow.domain.document import Form, Value
from agentflow.domain.http_document import read_url
from agentflow.domain.template import has_expressions
from agentflow.domain.wording import listing, shorten

NOTIFY_FORM = Form(known=("webhook", "email", "command"), elsewhere=ON_THE_STEP)
ADDRESS_PATTERN = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
"""A plain mail address: no name beside it, nothing quoted, ASCII."""
MAX_RECIPIENTS = 50


def read_notify(value: Value, reading: ActionReading) -> None:
    """Read ``notify: {webhook: URL}``, ``{email: ADDRESS or a list}`` or ``{command: [...]}``."""
    fields = value.fields(NOTIFY_FORM)
    if fields is None:
        return
    if len(fields) != 1:
        named = listing(sorted(fields)) or "none"
        value.fault("bad_value", f"notify has exactly one of webhook, email and command, this has {named}")
        return
    before = len(value.faults)
    [(kind, given)] = fields.items()
    match kind:
        case "webhook":
            action = NotifyAction(webhook=read_url(given, reading))
        case "email":
            action = NotifyAction(email=_read_addresses(given, reading))
        case _:
            action = NotifyAction(command=_read_command(given, reading))
    if len(value.faults) == before:
        reading.action = action


def is_address(text: str) -> bool:
    """Whether ``text`` is a plain mail address."""
    return re.fullmatch(ADDRESS_PATTERN, text, re.ASCII) is not None


def _read_addresses(value: Value, reading: ActionReading) -> tuple[str, ...]:
    items = [value] if isinstance(value.value, str) else value.items()
    if items is not None and not 0 < len(items) <= MAX_RECIPIENTS:
        value.fault("bad_value", f"email names 1 to {MAX_RECIPIENTS} addresses, not {len(items)}")
    addresses = []
    for item in items or ():
        text = reading.template(Place.EMAIL, item, item.text())
        if text is not None and not has_expressions(text) and not is_address(text):
            item.fault("bad_value", f"{shorten(text)!r} is no mail address: write one such as ops@example.org")
        if text is not None:
            addresses.append(text)
    return tuple(dict.fromkeys(addresses))


def _read_command(value: Value, reading: ActionReading) -> tuple[str, ...]:
    items = value.items()
    words = [reading.template(Place.ARGV, item, item.argument()) for item in items or ()]
    if items is not None and (not words or words[0] == ""):
        value.fault("empty_command", "the command is empty: its first word names the program")
    return tuple(word for word in words if word is not None)
