"""`agentflow demo`: one real run on a stack of its own, what it left, and the proof that nothing stays behind.

Owns the story and its words. Following the run is following.py's, the stack is stack/'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from agentflow.cli import exit_codes, printing, words
from agentflow.cli.crash_show import CRASHED_STEP, PAUSE_SECONDS, CrashShow
from agentflow.cli.demo_summary import sum_up
from agentflow.cli.following import follow
from agentflow.client import AgentFlow, Run
from agentflow.domain.error import UsageError
from agentflow.embedded import AlreadyRunning, read_state
from agentflow.settings import Settings
from agentflow.stack.background import BackgroundStack, await_ready_elsewhere
from agentflow.stack.processes import ProcessName, process_tree, survivors
from agentflow.stack.starter import PLAN
from agentflow.stack.supervision import StackOptions

LEAVE_SECONDS = 10.0


@dataclass(slots=True)
class Demo:
    """What one demo was asked for, and what it has to say at its end."""

    settings: Settings
    options: StackOptions
    is_kept: bool
    is_crashing: bool
    is_json: bool
    left: int = 0
    """How many processes of the demo are left although it has ended."""

    def run(self) -> int:
        """Show everything; returns the exit code."""
        with self._stack() as pid, AgentFlow(self.settings) as flow:
            self._say("")
            run = flow.submit(PLAN, {"pause": PAUSE_SECONDS if self.is_crashing else 0})
            show = CrashShow(flow, run.id, pid, self._say)
            if self.is_crashing:
                self._say(f"When {CRASHED_STEP} runs, every process of its worker will be killed.\n")
                show.start()
            follow(run, is_quiet=self.is_json, has_advice=False)  # ours comes once the stack is down
            if self.is_crashing:
                self._say(show.account(run))
            self._show(run)
            if not self.is_json:
                sum_up(flow, run, self._say)
        self._say_next(run)
        return exit_codes.FAILED if self.left else exit_codes.of_state(run.state)

    @contextmanager
    def _stack(self) -> Iterator[int]:
        """The stack that is up, or one of our own; yields the process that keeps it."""
        state = read_state(self.settings.home)
        if state is not None:
            yield self._join(state.pid)
            return
        stack = BackgroundStack(self.settings.home, self.options)
        try:
            self._say(f"Starting a stack of its own; data and logs are in {self.settings.home.absolute()}.")
            for _, text in stack.news():
                self._say(f"{text[:1].upper()}{text[1:]}.")
        except AlreadyRunning as other:
            yield self._join(await_ready_elsewhere(self.settings.home, other).pid)
            return
        except BaseException:  # a Ctrl-C too must leave nothing behind
            stack.end()
            raise
        with self._ending(stack):
            yield stack.pid

    def _join(self, pid: int) -> int:
        if self.is_crashing:
            raise UsageError(
                f"A stack runs already (process {pid}), and --crash kills its worker. End it with `agentflow down`, "
                "or give the demo another AGENTFLOW_HOME."
            )
        self._say(f"Using the stack that is up (process {pid}).")
        self.is_kept = True
        return pid

    @contextmanager
    def _ending(self, stack: BackgroundStack) -> Iterator[None]:
        is_complete = False
        try:
            yield
            is_complete = True
        finally:
            if self.is_kept and is_complete:
                stack.keep()
            else:
                processes = process_tree(stack.pid)
                stack.end()
                self._account_for(processes)

    def _account_for(self, processes: list[ProcessName]) -> None:
        left = survivors(processes, LEAVE_SECONDS)
        self.left = len(left)
        if left:
            printing.note("Still running: " + "; ".join(f"{each.pid} {each.command[:60]}" for each in left))
        else:
            self._say(f"The stack has ended: {len(processes)} processes, none is left.")

    def _show(self, run: Run) -> None:
        if self.is_json:
            printing.print_json(run.as_json())
            return
        files = run.artifacts
        if any(file.name == "report.md" for file in files):
            print("\nThe report:\n")
            print(run.read_artifact("report.md").decode())
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("artifact", "step", "size", "sha256"):
            table.add_column(column, no_wrap=True, justify="right" if column == "size" else "left")
        for file in files:
            table.add_row(
                Text(words.printable(file.name)), Text(file.step), words.size(file.bytes), Text(file.sha256[:16], "dim")
            )
        printing.console().print(table)
        print()

    def _say_next(self, run: Run) -> None:
        short = words.short_id(run.id)
        first = ("agentflow down", "end the stack") if self.is_kept else ("agentflow up --detach", "start it again")
        self._say("\nNext:")
        for command, what in (
            first,
            (f"agentflow show {short}", "this run: it is in the stack's database"),
            ("agentflow init first && agentflow run first/plan.yaml", "the same plan, yours to change"),
        ):
            self._say(f"  {command:<55}{what}")

    def _say(self, text: str) -> None:
        if not self.is_json:
            print(text, flush=True)
