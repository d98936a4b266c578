"""The sections of a report's page: what each table has, and how much of it. The JSON has everything.

Steps that went as they should are folded where there are many, as are the items of a foreach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentflow.domain.figures import duration, size, usd
from agentflow.domain.report import GateEntry, Happening, Report, StepEntry
from agentflow.domain.report_cells import (
    ROOM,
    Cell,
    Kind,
    Line,
    Section,
    Table,
    at,
    code,
    moment,
    note_of,
    reason,
    room,
)
from agentflow.domain.wording import listing

ITEMS_ROOM = 20
"""How many steps of a foreach are shown by themselves before they are folded."""
_FINE = frozenset({"succeeded", "skipped"})


def steps(report: Report) -> Section | None:
    if not report.steps:
        return None
    many = {entry.step for entry in report.foreachs if sum(entry.states.values()) > ITEMS_ROOM}
    shown = [step for step in _in_order(report.steps) if step.foreach not in many or step.state not in _FINE]
    rows, left = _fold(shown)
    folded = len(report.steps) - len(shown)
    note = [f"{left:,} more steps that went as they should"] if left else []
    note += [f"{folded:,} steps of foreachs, see below"] if folded else []
    headings = ("Step", "Action", "State", "Started", "Duration", "Attempts", "Worker", "Exit", "Reason", "Result")
    return Section("Steps", table=Table(headings, tuple(map(_step, rows)), note_of(note)))


def _in_order(steps: Sequence[StepEntry]) -> Iterator[StepEntry]:
    """The steps in the order of the plan, and what a foreach made behind the foreach, which comes last in the rows."""
    made: defaultdict[str | None, list[StepEntry]] = defaultdict(list)
    for step in steps:
        made[step.foreach].append(step)
    work = made[None][::-1]
    while work:
        step = work.pop()
        yield step
        work += made[step.id][::-1]


def _fold(steps: Sequence[StepEntry]) -> tuple[list[StepEntry], int]:
    """Leave out steps that went as they should where there are more than there is room for; tells how many."""
    if len(steps) <= ROOM:
        return list(steps), 0
    odd = [step for step in steps if not _went_well(step)]
    room = max(0, ROOM - len(odd))
    keys = {step.id for step in odd[:ROOM]}
    keys |= {step.id for step in [step for step in steps if _went_well(step)][:room]}
    shown = [step for step in steps if step.id in keys]
    return shown, len(steps) - len(shown)


def _went_well(step: StepEntry) -> bool:
    return step.state in _FINE and len(step.attempts) <= 1


def _step(step: StepEntry) -> tuple[Cell, ...]:
    last = step.attempts[-1] if step.attempts else None
    left = "" if last is None or last.exit_code is None else str(last.exit_code)
    ended = f"signal {last.signal}" if last is not None and last.signal is not None else left
    why = reason(step.reason) or (reason(last.reason) if last and step.state not in _FINE else "")
    result = "" if step.result is None else f"{size(step.result.bytes)} {step.result.sha256[:12]}"
    return (
        Cell(step.id, Kind.CODE, depth=step.id.count("[") + step.id.count("].")),
        Cell(step.action),
        Cell(step.state, Kind.STATE),
        at(step.attempts[0].started_at if step.attempts else None),
        Cell(duration(step.duration_seconds) if step.attempts else "", Kind.FIGURE),
        Cell(str(len(step.attempts)) if step.attempts else "", Kind.FIGURE),
        Cell(last.worker if last else ""),
        Cell(ended, Kind.FIGURE),
        Cell(why),
        code(result),
    )


def foreachs(report: Report) -> Section | None:
    if not report.foreachs:
        return None
    rows = tuple(
        (
            code(entry.step),
            Cell(entry.state, Kind.STATE),
            Cell(f"{entry.items:,}", Kind.FIGURE),
            Cell(", ".join(f"{count:,} {state}" for state, count in entry.states.items())),
        )
        for entry in report.foreachs[:ROOM]
    )
    return Section("Foreachs", table=Table(("Step", "State", "Items", "Steps made for them"), rows))


def routes(report: Report) -> Section | None:
    if not report.routes:
        return None
    rows, note = room([(code(route.step), code(route.choice)) for route in report.routes])
    return Section("Routes taken", table=Table(("Decision", "Chose"), rows, note))


def usage(report: Report) -> Section | None:
    if not report.usage:
        return None
    headings = ("Model", "Calls", "Input", "Output", "Cached", "Reasoning", "USD", "Estimated", "No price")
    rows = tuple(
        (
            code(f"{each.provider}:{each.model}"),
            *(
                Cell(f"{count:,}", Kind.FIGURE)
                for count in (
                    each.calls, each.input_tokens, each.output_tokens, each.cached_tokens, each.reasoning_tokens
                )
            ),
            Cell(usd(each.usd), Kind.FIGURE),
            Cell(f"{each.estimated_calls:,}", Kind.FIGURE),
            Cell(f"{each.unpriced_calls:,}", Kind.FIGURE),
        )
        for each in report.usage
    )  # fmt: skip
    note = "of this run alone: its child runs have reports of their own" if report.lineage.children else None
    return Section("Model usage", table=Table(headings, rows, note))


def gates(opened: Sequence[GateEntry]) -> Section | None:
    if not opened:
        return None
    rows, note = room([_gate(gate) for gate in opened])
    return Section(
        "Gates", table=Table(("Gate", "Kind", "State", "Opened", "Decided", "Needs", "Decisions"), rows, note)
    )


def _gate(gate: GateEntry) -> tuple[Cell, ...]:
    who = listing(gate.approvers) if gate.approvers else "anyone"
    said = "; ".join(
        f"{each.actor}: {each.verdict} at {moment(each.at)}"
        + (f" ({each.why})" if each.why else "")
        + (f", filled in {listing(each.fields)}" if each.fields else "")
        for each in gate.decisions
    )
    expires = Cell(f"expires {moment(gate.expires_at)}" if gate.expires_at else "")
    return (
        code(gate.step if gate.round == 1 else f"{gate.step} (round {gate.round})"),
        Cell(gate.kind),
        Cell(gate.state, Kind.STATE),
        at(gate.opened_at),
        at(gate.decided_at) if gate.decided_at else expires,
        Cell(f"{gate.needed} of {who}" + (" (escalated)" if gate.is_escalated else "")),
        Cell(said or "none"),
    )


def interventions(found: Sequence[Happening]) -> Section | None:
    if not found:
        return None
    rows, note = room([_happening(each) for each in found])
    return Section("Interventions", table=Table(("When", "Who", "What", "On", "Came to", "Why"), rows, note))


def timeline(report: Report) -> Section | None:
    told = report.timeline
    if not told.entries:
        return None
    rows, note = room([_happening(each) for each in told.entries])
    left = [f"{count:,} of {action}" for action, count in told.left_out.items()]
    notes = [*([note] if note else []), *([f"left out: {', '.join(left)}"] if left else [])]
    headings = ("When", "Who", "What", "On", "Came to", "Why")
    return Section("Timeline", table=Table(headings, rows, "; ".join(notes) or None))


def _happening(each: Happening) -> tuple[Cell, ...]:
    moved = f"{each.old} → {each.new}" if each.old else each.new or ""
    more = f"{each.moved:,} rows" if each.moved > 1 else ""
    said = str(each.detail.get("why") or "")
    told = ", ".join(
        _detail(name, value) for name, value in each.detail.items() if name != "why" and not _is_nothing(value)
    )
    words = reason(each.reason)
    why = "; ".join(part for part in (words, said if said not in words else "", told) if part)
    kind, _, key = each.subject.partition(":")
    return (
        at(each.at),
        Cell(each.actor),
        Cell(each.action),
        code(key) if key else Cell(kind),
        Cell("; ".join(part for part in (moved, more) if part)),
        Cell(why),
    )


def files(report: Report) -> Section | None:
    if not report.files:
        return None
    streams = [each for each in report.files if each.kind in ("stdout", "stderr")]
    left = [each for each in report.files if each.kind not in ("stdout", "stderr")]
    rows, note = room(
        [
            (
                code(f"{each.step}/{each.name}"),
                Cell(each.kind),
                Cell(str(each.attempt), Kind.FIGURE),
                Cell(size(each.bytes) + (" (cut)" if each.is_cut else ""), Kind.FIGURE),
                code(each.sha256),
            )
            for each in left
        ]
    )
    notes = [note] if note else []
    notes += [f"{len(streams):,} streams of {size(sum(each.bytes for each in streams))}"] if streams else []
    return Section("Artifacts", table=Table(("Artifact", "Kind", "Attempt", "Size", "SHA-256"), rows, note_of(notes)))


def lineage(report: Report) -> Section | None:
    known, lines = report.lineage, list[Line]()
    if known.forked_from is not None:
        lines.append((Cell("Forked from"), code(str(known.forked_from)), Cell(f"at step {known.forked_at_step}")))
    if known.parent_run is not None:
        lines.append((Cell("Part of"), code(str(known.parent_run)), Cell(f"as its step {known.parent_step}")))
    for word, runs in (("Fork", known.forks), ("Child run", known.children)):
        lines += [(Cell(word), code(str(run))) for run in runs[:ROOM]]
        if len(runs) > ROOM:
            lines.append((Cell(f"and {len(runs) - ROOM:,} more"),))
    return Section("Lineage", tuple(lines)) if lines else None


def audit(report: Report) -> Section:
    known = report.audit
    lines: list[Line] = [(Cell(f"{known.events:,} events"),)]
    if known.head is not None:
        number = "" if known.sequence is None else f" (event {known.sequence:,} of its own chain)"
        lines.append((Cell("Head"), code(known.head), Cell(number.strip())))
    if known.seal is not None:
        over = "" if known.sealed_chains is None else f"over {known.sealed_chains:,} chains"
        lines.append((Cell("Seal"), code(known.seal), Cell(over)))
    else:
        lines.append((Cell("Not sealed: the run has not ended"),))
    if known.checkpoint is not None:
        lines.append((Cell(f"In signed checkpoint {known.checkpoint:,}"),))
    if report.pruned is None:
        lines.append((Cell("Check it with"), code(f"agentflow audit verify {report.head.run}")))
    return Section("Audit", tuple(lines))


def _is_nothing(value: Any) -> bool:
    return value is None or value is False or value in ([], (), {})


def _detail(name: str, value: Any) -> str:
    """A fact of an event in words: a change as before and after, a list or a mapping as such."""
    if isinstance(value, Mapping):
        return f"{_name(name)} ({', '.join(_detail(key, entry) for key, entry in value.items())})"
    if isinstance(value, list):
        is_change = len(value) == 2 and not any(isinstance(each, str) for each in value)
        told = [_figure(name, each) for each in value]
        return f"{_name(name)} {f'{told[0]} → {told[1]}' if is_change else listing(told)}"
    return f"{_name(name)} {_figure(name, value)}"


def _name(name: str) -> str:
    return name.removesuffix("_nano").removesuffix("_seconds").replace("_", " ")


def _figure(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(_detail(key, entry) for key, entry in value.items()) or "none"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name.endswith("_nano"):
            return usd(value / 1e9)
        return duration(value) if name.endswith("_seconds") else f"{value:,}"
    return str(value)
