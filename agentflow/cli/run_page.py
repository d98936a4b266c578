"""The pages that show one run and a list of runs to a person.

Owns what stands on them and what they say to type next. The table of steps is steps_table's.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.cli.budget_page import capped
from agentflow.cli.calls_table import calls_table, used, used_in_all
from agentflow.cli.gates_page import answers, gates_page
from agentflow.cli.steps_table import steps_table, tally
from agentflow.client import ArtifactView, Run, RunPage
from agentflow.domain.gate import Verdict
from agentflow.domain.gate_shape import GateView
from agentflow.domain.pause import Pause
from agentflow.domain.reason import ReasonCode
from agentflow.domain.shortfall import missing
from agentflow.domain.state import FINAL_RUN_STATES, ShownRunState
from agentflow.domain.wording import listing
from agentflow.storage.view_shapes import RunView, StepView

ROOM = 200
"""How many steps and files a page lists; ``--json`` has all of them."""
_CAN_BE_RETRIED = (ShownRunState.FAILED, ShownRunState.PARTIAL, ShownRunState.CANCELLED)


Verdicts = Callable[[GateView], Sequence[Verdict]]
"""What the reader of a page may say to a gate."""


def _every_verdict(_: GateView) -> Sequence[Verdict]:
    return tuple(Verdict)


def run_page(view: RunView, verdicts: Verdicts = _every_verdict, *, has_all_items: bool = False) -> Group:
    """Return the page of one run; with all items of its foreachs, or folded to counts where they are many."""
    now = view.summary.read_at
    parts: list[RenderableType] = [headline(view), _facts(view), Text(), _steps(view, has_all_items=has_all_items)]
    calls = [attempt for step in view.steps.values() for attempt in step.attempts if attempt.call]
    if calls:
        parts += [Text(), Text("calls", "dim"), Padding(calls_table(view, ROOM), (0, 0, 0, 2), expand=False)]
    files = [file for step in view.steps.values() for file in step.artifacts if not file.is_stream]
    if files:
        parts += [Text(), Text("artifacts", "dim"), Padding(_files_table(files[:ROOM]), (0, 0, 0, 2), expand=False)]
        if len(files) > ROOM:
            parts.append(Text(f"  and {len(files) - ROOM} more", "dim"))
    if asking := [gate for gate in view.gates if gate.gate.state == "open"]:
        parts += [
            Text(),
            Text("gates", "dim"),
            Padding(gates_page(asking, has_answers=False), (0, 0, 0, 2), expand=False),
        ]
    if view.signals:
        told = ", ".join(f"{each.name} by {each.actor} {words.ago(each.at, now)}" for each in view.signals[:ROOM])
        parts += [Text(), Text("signals that no step has taken", "dim"), Text(words.printable(f"  {told}"))]
    suggestions = list(next_things(view, verdicts))
    if suggestions:
        parts += [Text(), Text("next", "dim"), Padding(commands_table(suggestions), (0, 0, 0, 2), expand=False)]
    return Group(*parts)


def _steps(view: RunView, *, has_all_items: bool) -> RenderableType:
    room = len(view.steps) if has_all_items else ROOM
    return steps_table(view, view.summary.read_at, room, is_unfolded=has_all_items)


def headline(view: RunView) -> Text:
    """Return the first line: which run, how it stands, why."""
    summary = view.summary
    line = Text.assemble(
        (summary.plan_name, "bold"), "  ", (words.short_id(summary.id), "cyan"), "  ",
        (summary.state.value, words.STATE_STYLES[summary.state]),
    )  # fmt: skip
    why = words.reason(summary.reason) or _why_partial(view)
    return line.append(f": {why}") if why else line


def _why_partial(view: RunView) -> str:
    """Return which steps kept a run from completing that did not end it, so that it has no reason of its own."""
    if view.summary.state is not ShownRunState.PARTIAL:
        return ""
    own = [step for step in view.steps.values() if step.foreach is None]
    failed = [step.id for step in own if step.state == "failed"]
    partly = [step for step in own if step.state == "succeeded" and is_code(step, ReasonCode.ITEMS_FAILED)]
    broken = [step.id for step in own if is_code(step, ReasonCode.WHEN_ERROR)]
    parts = [f"failed: {listing(failed)}"] if failed else []
    parts += [f"{step.id}: {words.reason(step.reason)}" for step in partly]
    parts += [f"skipped by a condition that cannot be evaluated: {listing(broken)}"] if broken else []
    return "; ".join(parts)


def is_code(step: StepView, code: ReasonCode) -> bool:
    """Whether this is the reason of a step."""
    return (step.reason or {}).get("code") == code


def closing_line(view: RunView, *, is_named: bool = True) -> Text:
    """Return how a run ended, in one line, under its name or not."""
    line = headline(view) if is_named else Text(view.summary.state.value, words.STATE_STYLES[view.summary.state])
    took = words.run_seconds(view.summary)
    if view.summary.ended_at and took is not None:
        line.append(f"  in {words.duration(took)}")
    return line.append(f"  ({tally(Counter(step.state.value for step in view.steps.values()))})", "dim")


def _facts(view: RunView) -> Table:
    summary, usage = view.summary, view.usage
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    took = f"{words.took(view)} in {words.count(usage.attempts, 'attempt')}"
    again = f", round {summary.round}" if summary.round > 1 else ""
    above = view.lineage.parent
    for name, value in (
        ("run", str(summary.id)),
        ("plan", f"{summary.plan_name} {summary.plan_fingerprint[:12]}, project {summary.project}"),
        ("submitted", f"{words.moment(summary.created_at)} UTC by {summary.actor}"),
        ("forked from", _origin(view)),
        ("child of", f"{words.short_id(above.run)} by {above.step}" if above else ""),
        ("child runs", listing([f"{words.short_id(each.run)} ({each.step})" for each in view.lineage.children])),
        ("forks", listing([words.short_id(each) for each in view.lineage.forks])),
        ("ended", f"{words.moment(summary.ended_at)} UTC" if summary.ended_at else ""),
        ("paused", _pause(view)),
        ("took", took + again),
        ("used", f"{used(usage)}{' by itself' if view.tree and usage.calls else ''}"),
        ("used in all", used_in_all(view.tree)),
        ("budget", "; ".join(map(capped, view.budget)) + ("; child runs count" if view.budget and view.tree else "")),
        ("steps", tally(Counter(step.state.value for step in view.steps.values()))),
        ("progress", "" if summary.ended_at else f"{view.progress.percent} %"),
    ):
        if value:
            table.add_row(name, Text(words.printable(value)))
    return table


def _pause(view: RunView) -> str:
    """Return since when a paused run is so, and what of it still runs."""
    if view.summary.state is not ShownRunState.PAUSED:
        return ""
    since = datetime.fromisoformat(((view.summary.reason or {}).get("detail") or {})["at"])
    running = sum(step.state == "running" for step in view.steps.values())
    rest = f"{words.count(running, 'attempt')} still {'runs' if running == 1 else 'run'}" if running else "drained"
    return f"{words.moment(since)} UTC ({words.ago(since, view.summary.read_at)}), {rest}"


def _origin(view: RunView) -> str:
    lineage = view.lineage
    return f"{words.short_id(lineage.forked_from)} at {lineage.forked_at_step}" if lineage.forked_from else ""


def _files_table(files: list[ArtifactView]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(justify="right", no_wrap=True)
    for file in files:
        table.add_row(Text(words.printable(file.name)), Text(file.step), words.size(file.bytes))
    return table


def next_things(view: RunView, verdicts: Verdicts = _every_verdict) -> Iterator[tuple[str, str]]:
    """Yield what to type next, with the words for it."""
    short, state = words.short_id(view.summary.id), view.summary.state
    if first := next(filter(None, (_look_into(short, step) for step in view.steps.values())), None):
        yield first
    held = [step.id for step in view.steps.values() if (step.reason or {}).get("code") == ReasonCode.AWAITS_PERSON]
    dead = [step.id for step in view.steps.values() if (step.reason or {}).get("code") == ReasonCode.POISONED]
    for gate in view.gates:
        if gate.gate.state == "open":
            yield from _answers(gate, verdicts(gate))
    if event := next(filter(None, map(_signal_of, view.steps.values())), None):
        yield f"agentflow signal {short} {event}", "end its wait; --data gives the result"
    if dead and state in _CAN_BE_RETRIED:
        yield (
            f"agentflow dead-letters replay {short} {shlex.quote(dead[0])}",
            "it is poisoned: mend what ended its workers first",
        )
    if held:
        yield f"agentflow retry {short} --step {shlex.quote(held[0])}", "run it again: your word that this is safe"
    elif state in _CAN_BE_RETRIED and not dead:
        yield f"agentflow retry {short}", "take up what did not succeed"
    if state is ShownRunState.EXHAUSTED:
        yield from _ways_on(view)
    elif state is ShownRunState.PAUSED:
        yield from _ways_out_of_pause(view)
    elif state.value not in {final.value for final in FINAL_RUN_STATES}:
        yield f"agentflow watch {short}", "follow it"
    if state.value not in {final.value for final in FINAL_RUN_STATES}:
        yield f"agentflow cancel {short}", "end it"
    if view.lineage.forked_from is not None:
        yield f"agentflow show --diff {words.short_id(view.lineage.forked_from)} {short}", "compare it with its origin"
    files = [file for step in view.steps.values() for file in step.artifacts if not file.is_stream]
    if files:
        owners = {file.step for file in files if file.name == files[-1].name}
        which = f" --step {files[-1].step}" if len(owners) > 1 else ""
        yield f"agentflow artifact get {short} {shlex.quote(words.printable(files[-1].name))}{which}", "print it"


def _answers(gate: GateView, verdicts: Sequence[Verdict]) -> Iterator[tuple[str, str]]:
    """Yield what the reader may answer to a gate; where others must approve it, how to see who."""
    approve, reject = answers(gate)
    if Verdict.APPROVE in verdicts:
        yield approve, "approve it"
    else:
        yield f"agentflow gates {words.short_id(gate.run_id)}", "see who else may approve it"
    if Verdict.REJECT in verdicts:
        yield reject, "reject it"


def _look_into(short: str, step: StepView) -> tuple[str, str] | None:
    """Return what tells of a failed step how it failed, or mends that; None for one that left nothing to look into."""
    if step.state != "failed":
        return None
    if is_code(step, ReasonCode.CHILD_ENDED):
        child = words.short_id(((step.reason or {}).get("detail") or {})["run"])
        return f"agentflow why {child}", f"why the child run of {step.id} failed"
    if is_code(step, ReasonCode.SECRET_MISSING):
        name = ((step.reason or {}).get("detail") or {})["name"]
        return (
            f"export AGENTFLOW_SECRET_{name}=...",
            f"set it for the worker and start that again: {step.id} lacks it",
        )
    has_output = any(file.is_stream and file.bytes for file in step.artifacts)
    return (f"agentflow logs {short} {shlex.quote(step.id)}", f"what {step.id} wrote") if has_output else None


def _signal_of(step: StepView) -> str | None:
    """Return the signal that a step waits for."""
    reason = step.reason or {}
    is_waiting = step.state == "held" and reason.get("code") == ReasonCode.AWAITS_SIGNAL
    return (reason.get("detail") or {}).get("event") if is_waiting else None


def _ways_out_of_pause(view: RunView) -> Iterator[tuple[str, str]]:
    short = words.short_id(view.summary.id)
    if any(step.state == "running" for step in view.steps.values()):
        yield f"agentflow pause {short} --wait", "know when what runs has ended; with --now it is given back"
    if ((view.summary.reason or {}).get("detail") or {}).get("scope") == "maintenance":
        yield "agentflow resume --all", "end the maintenance of everything"
    elif ((view.summary.reason or {}).get("detail") or {}).get("scope") == "parent" and view.lineage.parent is not None:
        yield f"agentflow resume {words.short_id(view.lineage.parent.run)}", "let the run above go on, and this with it"
    else:
        yield f"agentflow resume {short}", "let it go on"


def _ways_on(view: RunView) -> Iterator[tuple[str, str]]:
    """Yield what lets a run go on that rests over budgets: by how much to raise its own, and to resume it."""
    short = words.short_id(view.summary.id)
    detail = (view.summary.reason or {}).get("detail") or {}
    resting = [detail, *detail.get("others", ())]
    caps = {line.budget: line.limit for line in view.budget}
    own = [each for each in resting if each["scope"].startswith("run:")]
    more = {each["budget"]: missing(each, caps.get(each["budget"], each["limit"])) for each in own}
    options = [f"--{kind.replace('_', '-')} +{least}" for kind, least in more.items() if least is not None]
    if options:
        yield f"agentflow budget raise {short} {' '.join(options)}", "the least that what it rests over needs"
    if len(own) < len(resting):
        yield f"agentflow budget show {short}", "budgets of the configuration: raise them there, or wait for the day"
    yield f"agentflow resume {short}", "let it go on"


def commands_table(suggestions: Iterable[tuple[str, str]]) -> Table:
    """Return what can be typed, each with the words for it."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="fold")
    for command, what in suggestions:
        table.add_row(Text(command), Text(what, "dim"))
    return table


def runs_page(page: RunPage, maintenance: Pause | None = None) -> RenderableType:
    """Return the list of runs, below the word that everything is under maintenance, if it is."""
    table = _runs_table(page)
    if maintenance is None:
        return table
    why = words.reason(maintenance.reason.as_json())
    told = f"Everything is {why}, since {words.moment(maintenance.at)} UTC (end it: agentflow resume --all)"
    return Group(Text(told, words.STATE_STYLES["paused"]), table)


def _runs_table(page: RunPage) -> RenderableType:
    if not len(page):
        return Text("No runs.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("run", "plan", "state", "submitted", "took", "project"):
        table.add_column(column, no_wrap=True)
    table.add_column("", overflow="ellipsis", no_wrap=True)
    for run in page:
        table.add_row(*_run_row(run))
    if page.next_cursor is None:
        return table
    return Group(table, Text(f"more: --cursor {page.next_cursor}", "dim"))


def _run_row(run: Run) -> list[Text]:
    summary = run.summary
    return [
        Text(words.short_id(summary.id), "cyan"),
        Text(summary.plan_name),
        Text(summary.state.value, words.STATE_STYLES[summary.state]),
        Text(words.ago(summary.created_at, summary.read_at)),
        Text(words.duration(words.run_seconds(summary))),
        Text(summary.project, "dim"),
        Text(words.reason(summary.reason)),
    ]
