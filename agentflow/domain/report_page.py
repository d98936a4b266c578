"""The page of a report: its title, what is known of the run, and the sections, before it is Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterator

from agentflow.domain import report_sections as sections_of
from agentflow.domain.figures import duration, usd
from agentflow.domain.report import Cap, Report
from agentflow.domain.report_cells import Cell, Kind, Line, Page, at, code, moment, reason
from agentflow.domain.state import FINAL_STEP_STATES


def page_of(report: Report) -> Page:
    """Return the page of a report; what there is nothing to say of has no section."""
    head = report.head
    sections = (
        sections_of.steps(report),
        sections_of.foreachs(report),
        sections_of.routes(report),
        sections_of.usage(report),
        sections_of.gates(report.gates),
        sections_of.interventions(report.interventions),
        sections_of.timeline(report),
        sections_of.files(report),
        sections_of.lineage(report),
        sections_of.audit(report),
    )
    return Page(
        title=f"Run {head.run} of {head.plan}",
        name=head.plan,
        run=str(head.run),
        state=head.state,
        figures=tuple(_figures(report)),
        counts=tuple(report.counts.items()),
        facts=tuple(_facts(report)),
        sections=tuple(section for section in sections if section is not None),
        foot=f"Read at {moment(head.read_at)}; times are in UTC. "
        "It holds no prompt, answer, output or result, only their hashes.",
    )


def _figures(report: Report) -> Iterator[tuple[str, str]]:
    head = report.head
    if head.elapsed_seconds is not None:
        yield "Duration", duration(head.elapsed_seconds)
    if report.steps:
        ended = sum(report.counts.get(state, 0) for state in FINAL_STEP_STATES)
        yield "Steps ended", f"{ended:,} of {sum(report.counts.values()):,}"
        yield "Attempts", f"{sum(len(step.attempts) for step in report.steps):,}"
    if report.usage:
        yield "Model calls", f"{sum(each.calls for each in report.usage):,}"
        yield "Tokens", f"{sum(each.input_tokens + each.output_tokens for each in report.usage):,}"
        yield "Cost", usd(sum(each.usd for each in report.usage))


def _facts(report: Report) -> Iterator[tuple[str, Line]]:
    head = report.head
    yield "State", (Cell(head.state, Kind.STATE), *((Cell(reason(head.reason)),) if head.reason else ()))
    if report.pruned is not None:
        gone = report.pruned
        yield "Pruned", (Cell(f"{moment(gone.at)} by {gone.by}; this is what is left of it"),)
        yield "Used", (Cell(f"{gone.input_tokens + gone.output_tokens:,} tokens, {usd(gone.usd)}"),)
    yield "Plan", (code(head.plan), code(head.fingerprint))
    yield "Project", (code(head.project),)
    if head.actor is not None:
        yield "Submitted by", (code(head.actor),)
    if head.directive is not None:
        yield "Directive", (code(head.directive),)
    if head.mode not in (None, "auto"):
        yield "Mode", (Cell(str(head.mode)),)
    yield from _times(report)
    if report.budget:
        below = "; child runs count" if report.lineage.children else ""
        yield "Budget", (Cell("; ".join(map(_cap, report.budget)) + below),)
    if report.vars:
        yield "Vars", tuple(_vars(report))


def _times(report: Report) -> Iterator[tuple[str, Line]]:
    head = report.head
    yield "Created", (at(head.created_at),)
    if head.started_at is not None:
        yield "Started", (at(head.started_at),)
    if head.ended_at is not None:
        yield "Ended", (at(head.ended_at),)
    if head.elapsed_seconds is not None and head.active_seconds is not None:
        told = f"{duration(head.elapsed_seconds)}, of which active {duration(head.active_seconds)}"
        told += f" and at rest {duration(head.rested_seconds)}" if head.rested_seconds else ""
        yield "Duration", (Cell(told),)
    if head.round > 1:
        yield "Round", (Cell(str(head.round)),)
    if report.steps:
        told = ", ".join(f"{count:,} {state}" for state, count in report.counts.items())
        yield "Steps", (Cell(f"{sum(report.counts.values()):,}: {told}"),)


def _cap(cap: Cap) -> str:
    limit = "no limit" if cap.limit is None else _amount(cap.budget, cap.limit)
    reserved = f", {_amount(cap.budget, cap.reserved)} reserved" if cap.reserved else ""
    return f"{cap.budget.replace('_', ' ')} {_amount(cap.budget, cap.used)} of {limit}{reserved}"


def _amount(kind: str, value: float) -> str:
    if kind == "active_time":
        return duration(value)
    return usd(value) if kind == "usd" else f"{value:,.0f}"


def _vars(report: Report) -> Iterator[Cell]:
    for name, value in report.vars.items():
        yield code(f"{name}={value!r}" if report.has_vars else name)
