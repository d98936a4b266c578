"""Performs ``notify``: hands the notice of a run to a webhook, to a mail server or to a command.

Owns what becomes of the notice on each of the three ways. Its text comes with the assignment and holds counts only; the
call over HTTP and the command are the work of the executors of ``http`` and ``subprocess``, with all of their guards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from functools import cached_property
from typing import Any, cast

from agentflow.domain.action import HttpAction, NotifyAction, SubprocessAction
from agentflow.domain.call import CallProblem
from agentflow.domain.notify_document import is_address
from agentflow.executors.base import (
    Assignment,
    CallingExecutor,
    CallRecord,
    Estimate,
    Lifeline,
    Performance,
    executor_for,
)
from agentflow.executors.command import Ended
from agentflow.executors.smtp import PROVIDER, MailServer, deliver
from agentflow.settings import load_settings

NOTICE_TEXT = "payload"
"""What the notice is called in Assignment.texts."""
IDEMPOTENCY_HEADER = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class MailWorld:
    """What mails are sent with; no server where the settings name none."""

    server: MailServer | None
    sender: str


class NotifyExecutor:
    """Tells somebody how a run stands; what it needs of the settings is read with the first mail."""

    action = "notify"
    queue = "commands"

    def __init__(self, mail: MailWorld | None = None) -> None:
        self._given = mail

    @cached_property
    def _mail(self) -> MailWorld:
        if self._given is not None:
            return self._given
        settings = load_settings()
        url = settings.smtp_url
        return MailWorld(None if url is None else MailServer.from_url(url.get_secret_value()), settings.smtp_from)

    def estimate(self, assignment: Assignment) -> Estimate:
        """Name whom it calls; a notice costs no tokens. Raises ConfigurationError for settings that cannot be used."""
        action = _action_of(assignment)
        if action.webhook is not None:
            return cast("CallingExecutor", executor_for("http")).estimate(_call(assignment, action.webhook))
        if action.email is None:
            return Estimate()
        if not all(map(is_address, action.email)):
            return Estimate(problem=CallProblem.REJECTED)
        server = self._mail.server
        return Estimate(problem=CallProblem.NO_MAIL_SERVER) if server is None else Estimate(server.endpoint)

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Hand the notice over. Raises TypeError for an action of another type, ConfigurationError as ``estimate``."""
        action = _action_of(assignment)
        if action.webhook is not None:
            return executor_for("http").perform(_call(assignment, action.webhook), lifeline)
        if action.command is not None:
            return executor_for("subprocess").perform(_command(assignment, action.command), lifeline)
        server, recipients = self._mail.server, action.email or ()
        if server is None or not all(map(is_address, recipients)):
            problem = CallProblem.NO_MAIL_SERVER if server is None else CallProblem.REJECTED
            return Performance(Ended.EXITED, call=CallRecord(PROVIDER, "", was_sent=False, problem=problem))
        notice = json.loads(assignment.texts[NOTICE_TEXT])
        message = mail_of(notice, self._mail.sender, recipients)
        return deliver(server, message, lifeline, assignment.timeout_seconds)

    def close(self) -> None:
        """Nothing is kept: a connection ends with its notice."""


def _action_of(assignment: Assignment) -> NotifyAction:
    if not isinstance(assignment.action, NotifyAction):
        raise TypeError(f"a notify action is performed here, not {assignment.action.type!r}")
    return assignment.action


def _call(assignment: Assignment, url: str) -> Assignment:
    notice = assignment.texts[NOTICE_TEXT]
    headers = {IDEMPOTENCY_HEADER: str(json.loads(notice)["id"])}
    return replace(
        assignment, action=HttpAction(method="POST", url=url, headers=headers), texts={"json": notice}, stdin=None
    )


def _command(assignment: Assignment, command: tuple[str, ...]) -> Assignment:
    path = assignment.scratch / "notice.json"
    path.touch(mode=0o600)
    path.write_text(assignment.texts[NOTICE_TEXT], encoding="utf-8")
    return replace(assignment, action=SubprocessAction(command=command), stdin=path)


def mail_of(notice: Mapping[str, Any], sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """Write the mail of a notice; the same notice has the same Message-ID, so that a mailbox can see it twice."""
    plan, run = notice["plan"]["name"], notice["run"]
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = f"[agentflow] {plan}: {notice['state']}"
    message["Date"] = formatdate(localtime=False)
    message["Message-ID"] = f"<{notice['id']}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    usage = notice["usage"]
    counts = ", ".join(f"{count} {state}" for state, count in notice["steps"].items())
    lines = [
        f"Run {run} of the plan {plan} (project {notice['project']}) is {notice['state']}.",
        "",
        f"steps    {counts}",
        f"used     {usage['attempts']} attempts, {usage['tokens']} tokens, {usage['usd']:.4f} USD",
        f"created  {notice['created_at']}",
        f"started  {notice['started_at']}",
        f"told by  step {notice['step']} at {notice['at']}",
        "",
        f"agentflow show {run}",
    ]
    message.set_content("\n".join(lines) + "\n")
    return message
