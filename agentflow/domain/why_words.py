"""Why in words: one sentence for each reason, and what a person may do about it.

Owns the wording. ``{run}`` in an advice stands for whatever names the run where it is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from agentflow.domain.duration import format_duration
from agentflow.domain.held_words import held_advice, held_sentence
from agentflow.domain.reason import ReasonCode, sentence_of
from agentflow.domain.why import Group, Why, WhyCode
from agentflow.domain.wording import listing

_TENTHS_UNTIL = 10


def sentence(why: Why) -> str:
    """Return the reason as a sentence without a subject: ``waits for the rate limit api until ...``."""
    return _SENTENCES[why.code](why)


def sentence_of_group(group: Group) -> str:
    """Return why several steps are where they are; of what they need they have in common what that goes back to."""
    why = group.why
    if group.count == 1:
        return sentence(why)
    if why.cause is not None and why.detail.get("root") is not None:
        return f"each waits for step {why.detail['root']}, which {sentence(why.cause)}"
    return f"each {sentence(why)}"


def advice(why: Why) -> str | None:
    """Return what a person may do; None where nothing is to be done but to wait."""
    if why.code is WhyCode.EXHAUSTED:
        return _raise_budgets(why.detail["budgets"])
    if why.code is WhyCode.PAUSED and why.detail.get("scope") == "parent":
        return "it goes on with the run above it, which `agentflow show {run}` names: resume that"
    if why.code is WhyCode.PAUSED:
        return f"`agentflow resume {'--all' if why.detail.get('scope') == 'maintenance' else '{run}'}`"
    if why.code is WhyCode.RUN_ENDED and why.detail["state"] == "completed":
        return "`agentflow show {run}` tells what it did"
    if why.code is WhyCode.STEP_FINAL:
        return _look_at(why)
    if why.code is WhyCode.HELD and (told := held_advice(why.detail["reason"], why.detail.get("gate"))) is not None:
        return told.replace("{step}", shlex.quote(why.step or ""))
    if why.cause is not None and why.code is not WhyCode.RUN_ENDED:
        told = advice(why.cause)
        return told if told is None or why.cause.run is None else told.replace("{run}", why.cause.run)
    text = _ADVICE.get(why.code)
    return text and text.replace("{step}", shlex.quote(why.step or "")).replace(
        "{queue}", str(why.detail.get("queue", ""))
    )


def _look_at(why: Why) -> str | None:
    """Return where to look for how a step ended: at what it wrote, or at the child run that it waited for."""
    reason, step = why.detail["reason"] or {}, shlex.quote(why.step or "")
    if reason.get("code") == ReasonCode.POISONED:
        return f"mend what ended its workers, then `agentflow dead-letters replay {{run}} {step}`"
    if reason.get("code") == ReasonCode.CHILD_ENDED:
        return f"`agentflow why {reason['detail']['run']}` tells why its child run ended so"
    if reason.get("code") == ReasonCode.SECRET_MISSING:
        name = reason["detail"]["name"]
        return f"set AGENTFLOW_SECRET_{name} where its worker starts, start that again, then `agentflow retry {{run}}`"
    return f"`agentflow logs {{run}} {step}` prints what it wrote" if why.detail["has_logs"] else None


def why_json(why: Why, run: str) -> dict[str, Any]:
    """The reason as ``why --json`` prints it."""
    told = advice(why)
    return {
        "code": why.code.value,
        "step": why.step,
        "detail": dict(why.detail),
        "sentence": sentence(why),
        "advice": None if told is None else told.replace("{run}", run),
        "cause": None if why.cause is None else why_json(why.cause, why.cause.run or run),
    }


def _span(seconds: Any) -> str:
    amount = float(seconds)
    return format_duration(max(0.0, round(amount, 1) if amount < _TENTHS_UNTIL else round(amount)))


def _because(stored: Mapping[str, Any] | None) -> str:
    """A stored reason in words after a colon; nothing where there is none, its code where there are no words for it."""
    try:
        return f": {sentence_of(stored)}" if stored else ""
    except (ValueError, KeyError):
        return f": {stored.get('code')}" if stored else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _under_way(why: Why) -> str:
    running = why.detail["running"]
    return f"; {_count(running, 'step')} of it still run{'s' if running == 1 else ''}" if running else ""


def _paused(why: Why) -> str:
    by = "rests: everything is under maintenance by" if why.detail.get("scope") == "maintenance" else "is paused by"
    reason = f" ({why.detail['why']})" if why.detail.get("why") else ""
    return f"{by} {why.detail.get('actor') or '?'} since {why.detail.get('at') or '?'}{reason}{_under_way(why)}"


def _exhausted(why: Why) -> str:
    told = [sentence_of({"code": "budget_exhausted", "detail": budget}) for budget in why.detail["budgets"]]
    return f"rests over its budgets: {'; '.join(told)}{_under_way(why)}"


def _raise_budgets(budgets: list[Mapping[str, Any]]) -> str:
    own = [each for each in budgets if each["is_own"] and each["raise_by"] is not None]
    options = " ".join(f"--{each['budget'].replace('_', '-')} +{each['raise_by']}" for each in own)
    above = [each for each in budgets if not each["is_own"] and each["scope"].startswith("run:")]
    others = [each for each in budgets if not each["is_own"] and each not in above]
    parts = [f"`agentflow budget raise {{run}} {options}`"] if options else []
    for each in above if all(each["raise_by"] is not None for each in above) else ():
        kind, owner = each["budget"].replace("_", "-"), each["scope"].removeprefix("run:")
        parts.append(f"`agentflow budget raise {owner} --{kind} +{each['raise_by']}`")
    if others:
        renewed = [each["resets_at"] for each in others if each.get("resets_at")]
        by_itself = len(renewed) == len(budgets)
        parts += [f"wait until {max(renewed)}, it then goes on by itself" if by_itself else "raise the configured caps"]
        if by_itself:
            return parts[-1]
    return f"{', '.join(parts)}, then `agentflow resume {{run}}`" if parts else "`agentflow resume {run}`"


def _final(why: Why) -> str:
    attempts = why.detail["attempts"]
    tries = f" in {_count(attempts, 'attempt')}" if attempts else ""
    is_dead = (why.detail["reason"] or {}).get("code") == ReasonCode.POISONED
    dead = " (poisoned: a dead letter)" if is_dead else ""
    chose = f", and chose {why.detail['choice']}" if why.detail.get("choice") else ""
    return f"{_IS[why.detail['state']]}{tries}{chose}{_because(why.detail['reason'])}{dead}"


def _ended(why: Why) -> str:
    whose = "does not start any more: its run has" if why.step else "has"
    if why.cause is not None:
        return f"{whose} ended as {why.detail['state']}: step {why.cause.step} {sentence(why.cause)}"
    return f"{whose} ended as {why.detail['state']}{_because(why.detail['reason'])}"


_IS = {"succeeded": "has succeeded", "failed": "has failed", "skipped": "was skipped", "cancelled": "was cancelled"}


def _unmet(why: Why) -> str:
    needs = [f"{need['step']} ({need['state']})" for need in why.detail["needs"]]
    more = why.detail["count"] - len(needs)
    text = f"needs {listing(needs, len(needs))}{f' and {more} more' if more > 0 else ''}"
    if why.cause is None:
        return text
    root = why.detail["root"]
    is_alone = why.detail["count"] == 1 and why.detail["needs"][0]["step"] == root
    return f"{text}, which {sentence(why.cause)}" if is_alone else f"{text}; step {root} {sentence(why.cause)}"


def _items_open(why: Why) -> str:
    detail = why.detail
    waiting = f", {detail['awaiting']:,} await their turn" if detail["awaiting"] else ""
    text = f"waits for its items: {detail['done']:,} of {detail['items']:,} are done{waiting}"
    return text if why.cause is None else f"{text}; step {detail['root']} {sentence(why.cause)}"


def _awaits_turn(why: Why) -> str:
    detail = why.detail
    return (
        f"awaits its turn: of {detail['foreach']}, as many items as may be are under way ({detail['under_way']:,}), "
        f"and {detail['awaiting']:,} await their turn"
    )


def _running(why: Why) -> str:
    detail = why.detail
    asked = " and was told to stop" if detail["is_stop_requested"] else ""
    asked = asked or (" and was told to give the step back" if detail["is_yield_requested"] else "")
    lease = detail["lease_seconds"]
    where, since, which = detail["worker"], _span(detail["seconds"]), f"(attempt {detail['attempt']}){asked}"
    if lease > 0:
        return f"runs on {where} for {since} {which}; its lease holds for {_span(lease)} unless it is heard of again"
    return (
        f"began on {where} {since} ago {which}; its lease ended {_span(-lease)} ago and nothing was heard of it since: "
        "a dispatcher takes it for lost, and it goes on elsewhere or is held, as its on_lost says"
    )


def _no_worker(why: Why) -> str:
    last = why.detail["last"]
    known = ", ".join(f"{worker['name']}, last seen {worker['seen_at']}" for worker in last[:3])
    served = f" (it was served by {known})" if known else " (none ever did)"
    return f"is due, and no worker that is alive takes from the queue {why.detail['queue']}{served}"


def _no_dispatcher(why: Why) -> str:
    detail = why.detail
    last = (
        f"; {detail['holder']} led last, in term {detail['term']} until {detail['until']}" if detail["holder"] else ""
    )
    return f"is due, and no dispatcher is there to send it{last}"


def _redis_away(why: Why) -> str:
    queue, sent_at = why.detail["queue"], why.detail["sent_at"]
    sent = f"its message was sent at {sent_at}" if sent_at else "its message is not sent yet"
    return f"is due; {sent}, and Redis does not answer, so that nothing is known of the queue {queue}"


def _in_line(why: Why) -> str:
    detail = why.detail
    who = [f"{holder['step']} of {holder['run'][:8]} since {holder['since']}" for holder in detail["holders"][:3]]
    more = detail["held"] - len(who)
    held = (
        f", held by {' and '.join(filter(None, (', '.join(who), more and f'{more} more')))}" if detail["held"] else ""
    )
    places = f"{_count(detail['limit'], 'place')}{held}"
    return f"waits in line for {detail['key']} as number {detail['place']}; {detail['free']} free of its {places}"


def _waits(why: Why) -> str:
    detail = why.detail
    ahead = f"behind {_count(detail['ahead'], 'message')}" if detail["ahead"] else "as the next"
    hands = f"{_count(detail['workers'], 'worker')} with {_count(detail['slots'], 'slot')}, {detail['busy']} busy"
    return f"waits {ahead} in the queue {detail['queue']} ({hands}); sent {_span(detail['seconds'])} ago"


def _goes(why: Why) -> str:
    tally = ", ".join(f"{count:,} {state}" for state, count in why.detail["steps"].items())
    if why.cause is None:
        return f"goes on ({tally})"
    return f"has no step that runs ({tally}): {why.cause.step} {sentence(why.cause)}"


def _in(words: str) -> Callable[[Why], str]:
    """A sentence of a step that was put off: what for, and for how long."""
    return lambda why: f"{words} in {_span(why.detail['seconds'])}{_because(why.detail['reason'])}"


def _suspect(why: Why) -> str:
    words = "was lost with its worker again and again, in company; such steps are sent one at a time, and "
    ahead = why.detail["ahead"]
    if ahead is None:
        return words + "its turn comes"
    if ahead["run"] is None:
        return words + f"it waits for one of another project, which is {ahead['state']}"
    return words + f"it waits for {ahead['step']} of run {ahead['run']}, which is {ahead['state']}"


def _awaits_run(why: Why) -> str | None:
    """A step that waits for a child run, with why that is where it is; None for any other."""
    reason = why.detail["reason"] or {}
    if reason.get("code") != ReasonCode.AWAITS_RUN:
        return None
    told = sentence_of(reason)
    return told if why.cause is None else f"{told}, which {sentence(why.cause)}"


def _plain(words: str) -> Callable[[Why], str]:
    return lambda why: words.format_map(why.detail)


_SENTENCES: Mapping[WhyCode, Callable[[Why], str]] = {
    WhyCode.RUN_ENDED: _ended,
    WhyCode.RUN_CANCELLING: lambda why: f"is being cancelled{_because(why.detail['reason'])}{_under_way(why)}",
    WhyCode.RUN_FAILING: lambda why: f"is failing{_because(why.detail['reason'])}{_under_way(why)}",
    WhyCode.RUN_PENDING: _plain("has not been admitted yet"),
    WhyCode.PAUSED: _paused,
    WhyCode.EXHAUSTED: _exhausted,
    WhyCode.HELD: lambda why: (
        _awaits_run(why)
        or held_sentence(why.detail["reason"], why.detail.get("seconds"), why.detail.get("gate"))
        or f"is held{_because(why.detail['reason'])}"
    ),
    WhyCode.NO_WORKER: _no_worker,
    WhyCode.NO_DISPATCHER: _no_dispatcher,
    WhyCode.REDIS_AWAY: _redis_away,
    WhyCode.SUSPECT: _suspect,
    WhyCode.IN_LINE: _in_line,
    WhyCode.QUEUE_FULL: _plain("is due; {outstanding} messages are out in {queue}, the most there may be at a time"),
    WhyCode.BREAKER_OPEN: _in("is tried again"),
    WhyCode.POSTPONED: _in("is tried again"),
    WhyCode.BUDGET_CONTENDED: _in("asks again"),
    WhyCode.BUDGET_UNSETTLED: _in("asks again"),
    WhyCode.RATE_TICKET: lambda why: (
        f"waits for the rate limit {why.detail['key']}: its ticket is for {why.detail['at']}, "
        f"in {_span(why.detail['seconds'])}"
    ),
    WhyCode.RATE_ASKING: lambda why: (
        f"is due; {_count(why.detail['asking'], 'step')} before it {'is' if why.detail['asking'] == 1 else 'are'} out "
        f"to ask the rate limit {why.detail['key']} for tickets, the most at a time"
    ),
    WhyCode.RETRYING: _in("is tried again"),
    WhyCode.NOT_BEFORE: _in("is due"),
    WhyCode.DOORBELL_LOST: lambda why: (
        f"was sent {_span(why.detail['seconds'])} ago and is not in the queue {why.detail['queue']} any more: "
        "it is taken for lost and sent again within seconds"
    ),
    WhyCode.DOORBELL_WAITS: _waits,
    WhyCode.DOORBELL_TAKEN: lambda why: (
        f"was sent {_span(why.detail['seconds'])} ago and has left the queue {why.detail['queue']}: a worker takes it, "
        f"or it is sent again in {_span(why.detail['again_seconds'])}"
    ),
    WhyCode.NOT_SENT: _plain("is due since {since}; the dispatcher {leader} sends it within a second"),
    WhyCode.RUNNING: _running,
    WhyCode.ITEMS_OPEN: _items_open,
    WhyCode.AWAITS_TURN: _awaits_turn,
    WhyCode.NEEDS_UNMET: _unmet,
    WhyCode.STEP_FINAL: _final,
    WhyCode.RUN_GOES: _goes,
}
_ADVICE: Mapping[WhyCode, str] = {
    WhyCode.RUN_ENDED: "`agentflow show {run}` tells how; `agentflow retry {run}` takes up what did not succeed",
    WhyCode.HELD: "`agentflow retry {run} --step {step}` runs it again, on your word",
    WhyCode.NO_WORKER: "start a worker that serves it: `agentflow worker -Q {queue}`; `agentflow workers` lists all",
    WhyCode.NO_DISPATCHER: "start a worker or `agentflow beat`, each brings one; `agentflow doctor` tells more",
    WhyCode.REDIS_AWAY: "bring Redis back; what is due is sent then by itself",
    WhyCode.IN_LINE: "`agentflow limits` shows who holds the places",
    WhyCode.BREAKER_OPEN: "`agentflow limits` shows the breaker; it closes by itself once calls succeed",
    WhyCode.RATE_TICKET: "`agentflow limits` shows the rate",
    WhyCode.BUDGET_CONTENDED: "`agentflow budget show {run}` shows who has what",
    WhyCode.DOORBELL_WAITS: "more slots or workers make it shorter: `agentflow queues`",
}
