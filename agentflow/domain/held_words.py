"""Held in words: what a step waits for that comes by itself or from outside, how long, and what ends it.

Owns the wording for held steps, whose reason says what they wait for. ``{run}`` and ``{step}`` stand as in why_words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentflow.domain.duration import format_duration
from agentflow.domain.reason import ReasonCode, sentence_of
from agentflow.domain.wording import listing

_TENTHS_UNTIL = 10


def held_sentence(
    reason: Mapping[str, Any] | None, seconds: float | None = None, gate: Mapping[str, Any] | None = None
) -> str | None:
    """Return why a step is held, with the ``seconds`` until it is looked at again; None where this owns no words.

    ``gate`` says who may decide, for a step that waits for that.
    """
    words = _WORDS.get(_code(reason))
    if words is None or reason is None:
        return None
    return sentence_of(reason) + _who_decides(gate) + ("" if seconds is None else words(_span(seconds)))


def _who_decides(gate: Mapping[str, Any] | None) -> str:
    if gate is None:
        return ""
    given = f" by {listing(gate['approved_by'])}" if gate["approved_by"] else ""
    anyone = "anyone else" if gate["approved_by"] else "anyone"
    who = anyone if gate["may_approve"] is None else listing(gate["may_approve"]) or "nobody"
    but = f" but {gate['but_not']}, who submitted the run," if gate["but_not"] else ""
    empty = f" ({listing(gate['empty_groups'])}: no members here)" if gate["empty_groups"] else ""
    some = f"{gate['may_give']} of " if 0 < gate["may_give"] < gate["missing"] else ""
    return f"{given}; {who}{but} may give {some}the {gate['missing']} missing{empty}"


def held_advice(reason: Mapping[str, Any] | None, gate: Mapping[str, Any] | None = None) -> str | None:
    """Return what a person may do for a step that is held for this, at this gate; None where this owns no words."""
    if _code(reason) is ReasonCode.AWAITS_SIGNAL and reason is not None:
        return f"`agentflow signal {{run}} {(reason.get('detail') or {}).get('event')}` ends its wait"
    if _code(reason) is ReasonCode.AWAITS_DECISION:
        return f"{_to_approve(gate)}`agentflow reject {{run}} {{step}} --why ...`"
    if _code(reason) is ReasonCode.AWAITS_TIME:
        return "it goes on by itself; `agentflow cancel {run}` ends the run"
    return None


def _to_approve(gate: Mapping[str, Any] | None) -> str:
    """Return how it comes to be approved, and the word to what else may be done; where nobody may, what lets them."""
    if gate is None:
        return "`agentflow approve {run} {step}` or "
    if gate["may_approve"] == []:
        empty = listing(gate["empty_groups"])
        return f"put members into {empty} (approver_groups in agentflow.toml), or " if empty else ""
    fields = "".join(f" --set {name}=..." for name in gate["to_fill_in"])
    by = "" if gate["may_approve"] is None and not gate["but_not"] else " by one of them,"
    return f"`agentflow approve {{run}} {{step}}{fields}`{by} or "


def _code(reason: Mapping[str, Any] | None) -> ReasonCode | None:
    try:
        return ReasonCode(str((reason or {}).get("code")))
    except ValueError:
        return None


def _span(seconds: float) -> str:
    return format_duration(max(0.0, round(seconds, 1) if seconds < _TENTHS_UNTIL else round(seconds)))


_WORDS: Mapping[ReasonCode | None, Callable[[str], str]] = {
    ReasonCode.AWAITS_TIME: lambda span: f", in {span}",
    ReasonCode.AWAITS_SIGNAL: lambda span: f", for at most {span} more",
    ReasonCode.AWAITS_DECISION: lambda span: f"; it expires in {span}",
}
