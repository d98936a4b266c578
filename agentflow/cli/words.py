"""How a person reads values: durations, sizes, times, short ids, states and reasons.

Owns the wording and the colours of states. JSON has the full values; nothing here is parsed by anyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agentflow.domain.figures import duration as duration
from agentflow.domain.figures import size as size
from agentflow.domain.figures import usd as usd

if TYPE_CHECKING:
    from agentflow.storage.view_shapes import AttemptView, RunSummary, RunView, StepView

STATE_STYLES: Mapping[str, str] = {
    "pending": "dim",
    "ready": "cyan",
    "running": "bold cyan",
    "retrying": "yellow",
    "held": "bold magenta",
    "succeeded": "green",
    "failed": "bold red",
    "skipped": "dim",
    "cancelled": "yellow",
    "failing": "red",
    "cancelling": "yellow",
    "paused": "magenta",
    "exhausted": "magenta",
    "waiting": "bold magenta",
    "completed": "bold green",
    "partial": "bold yellow",
    "timed_out": "bold red",
    "lost": "red",
    "released": "yellow",
}
SIGNS: Mapping[str, str] = {
    "pending": "·",
    "ready": "○",
    "running": "●",
    "retrying": "↻",
    "held": "‖",
    "succeeded": "✓",
    "failed": "✗",
    "skipped": "↷",
    "cancelled": "⊘",
}
_SHORT_DIGITS = 8


def short_id(run_id: UUID | str) -> str:
    """Return the digits of an id that people read and type."""
    return str(run_id)[:_SHORT_DIGITS]


def printable(text: str, kept: str = "") -> str:
    """Return what others chose with nothing in it that a terminal would act on, apart from the characters ``kept``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in kept else repr(each)[1:-1] for each in text)


def moment(at: datetime | None) -> str:
    """Return a time in UTC to the second; nothing for None."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else ""


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago something was."""
    return f"{duration(max(0.0, (now - at).total_seconds()))} ago"


def reason(stored: Mapping[str, Any] | None) -> str:
    """Return a reason in words; its code where this version knows no words for it."""
    from agentflow.domain.reason import sentence_of

    if not stored:
        return ""
    if stored.get("code") == "budget_exhausted":
        return printable(_exhausted(stored.get("detail") or {}))
    if stored.get("code") == "paused":
        return printable(_paused(stored.get("detail") or {}))
    if stored.get("code") == "reused":
        return f"taken over from run {short_id(str((stored.get('detail') or {}).get('run', '?')))}"
    try:
        return printable(sentence_of(stored))
    except ValueError:
        return printable(str(stored.get("code", "")))


def amount(kind: str, value: float) -> str:
    """Return an amount of a budget: ``1,100 tokens``, ``$0.50``, ``50 steps``, ``10 m 00 s of active time``."""
    if kind == "active_time":
        return f"{duration(value)} of active time"
    return usd(value) if kind == "usd" else f"{value:,.0f} {kind}"


def bare_amount(kind: str, value: float) -> str:
    """Return an amount where what is counted stands beside it: ``1,100``, ``$0.50``, ``10 m 00 s``."""
    if kind == "active_time":
        return duration(value)
    return usd(value) if kind == "usd" else f"{value:,.0f}"


def scope(name: str) -> str:
    """Return whose budget it is: ``the run``, ``project ops``, ``project ops on 2026-11-21``, ``the installation``."""
    owner, _, day = name.partition("@")
    kind, _, which = owner.partition(":")
    whose = "the run" if kind == "run" else f"{kind} {which}" if which else f"the {kind}"
    return f"{whose} on {day}" if day else whose


def _paused(detail: Mapping[str, Any]) -> str:
    """Return who paused it, or everything, and what they said to it."""
    what = "under maintenance" if detail.get("scope") == "maintenance" else "paused"
    why = f": {detail['why']}" if detail.get("why") else ""
    return f"{what} by {detail.get('actor', '?')}{why}"


def _exhausted(detail: Mapping[str, Any]) -> str:
    """Return which budget does not do, in the figures of the moment at which it did not."""
    try:
        kind = str(detail["budget"])
        limit, used, reserved, needed = (float(detail[name]) for name in ("limit", "used", "reserved", "needed"))
        parts = [f"{bare_amount(kind, used)} of {bare_amount(kind, limit)} used"]
        parts += [f"{bare_amount(kind, reserved)} reserved"] * (reserved > 0)
        parts += [f"{bare_amount(kind, needed)} needed"] * (needed > 0)
        text = f"the budget of {kind} of {scope(str(detail['scope']))} is exhausted: {', '.join(parts)}"
    except (KeyError, TypeError, ValueError):  # written by another version
        return "a budget is exhausted"
    resets_at, others = detail.get("resets_at"), len(detail.get("others") or ())
    text += f"; it goes on by itself at {moment(datetime.fromisoformat(resets_at))} UTC" if resets_at else ""
    return f"{text} (and {count(others, 'more budget')})" if others else text


def step_reason(step: StepView, now: datetime) -> str:
    """Return why a step is as it is, and when it is tried again."""
    words = "; ".join(filter(None, (f"chose {printable(step.choice)}" if step.choice else "", reason(step.reason))))
    last = step.attempts[-1] if step.attempts else None
    if step.state == "retrying" and last and last.retry_at:
        left = (last.retry_at - now).total_seconds()
        due = f"next try in {duration(left)}" if left > 0 else "next try is due"
        return f"{words}; {due}" if words else due
    return words + _wait_left(step, now)


def _wait_left(step: StepView, now: datetime) -> str:
    """Return how long a wait takes yet, or a signal may take; nothing where no time is set."""
    told = step.reason or {}
    until, code = (told.get("detail") or {}).get("until"), told.get("code")
    if step.state != "held" or until is None or code not in ("awaits_time", "awaits_signal"):
        return ""
    left = duration(max(0.0, (datetime.fromisoformat(until) - now).total_seconds()))
    return f", in {left}" if code == "awaits_time" else f", for at most {left} more"


def run_seconds(summary: RunSummary, now: datetime | None = None) -> float | None:
    """Return how long a run took from its start to its end, rests and all, or goes by now; None before its start."""
    if summary.started_at is None:
        return None
    return max(0.0, ((summary.ended_at or now or summary.read_at) - summary.started_at).total_seconds())


def took(view: RunView) -> str:
    """Return how long a run took, and how much of that was active time where the rest was rest."""
    whole, active = duration(run_seconds(view.summary) or 0.0), duration(view.usage.active_seconds)
    return whole if whole == active else f"{whole}, of which active {active},"


def attempt_seconds(attempt: AttemptView, now: datetime) -> float:
    """Return how long an attempt took, or runs by now."""
    seconds = attempt.duration_seconds
    return max(0.0, (now - attempt.started_at).total_seconds()) if seconds is None else seconds


def count(number: int, noun: str) -> str:
    """Return ``1 step``, ``2 steps``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
