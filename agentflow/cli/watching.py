"""Watching a run with keys: a live table in which a person pauses, cancels, decides and guides, one key each.

Owns the keys and the terminal while they are read: it is set back whatever happens, and set to lines while something
is typed. Only for a terminal on both sides; what is shown is following.py's. A run that rests is watched on, for its
keys; one that has ended is not.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.live import Live

from agentflow.cli import exit_codes, printing, words
from agentflow.cli.following import LOOK_SECONDS, LiveTable, ending
from agentflow.client.pace import Pace
from agentflow.domain.error import AgentflowError, ServersUnreachable
from agentflow.domain.state import ShownRunState, is_final

if TYPE_CHECKING:
    from rich.console import Console

    from agentflow.client import Run

HINT = "p pause or resume   c cancel   a approve   r reject   g guide   q leave"
ESCAPE = "\x1b"


def has_keys() -> bool:
    """Whether a person sits at both sides of the program, which is not in the background of their shell."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # a terminal that controls nobody has no background either
        return True


class Keys:
    """The keyboard, read key by key while the block runs."""

    def __init__(self) -> None:
        self._handle = sys.stdin.fileno()
        self._usual = termios.tcgetattr(self._handle)

    def __enter__(self) -> Keys:
        tty.setcbreak(self._handle)
        return self

    def __exit__(self, *_error: object) -> None:
        self._set_back()

    def _set_back(self) -> None:
        termios.tcsetattr(self._handle, termios.TCSADRAIN, self._usual)

    def read(self, seconds: float | None) -> str | None:
        """Return the next key, None where none was pressed in time; ``q`` once nobody can press any more."""
        if not select.select([self._handle], [], [], seconds)[0]:
            return None
        pressed = os.read(self._handle, 64).decode(errors="ignore")
        if not pressed:
            return "q"
        return ESCAPE if pressed.startswith(ESCAPE) else pressed[0].lower()

    @contextmanager
    def typing(self) -> Iterator[None]:
        """Let lines be typed in the block, as a terminal usually does."""
        self._set_back()
        try:
            yield
        finally:
            tty.setcbreak(self._handle)


def watch(run: Run) -> int:
    """Watch a run until it has ended or the person leaves; returns the exit code of its state."""
    console, table = printing.console(), LiveTable(HINT)
    with Keys() as keys:
        while (key := _next_key(run, console, table, keys)) not in (None, "q"):
            table.said = _act(run, key or "", keys)
    if is_final(run.state):
        console.print(table.without_keys())
        console.print(ending(run, is_named=False))
    else:
        printing.note(f"Left; the run is {run.state}.\n  watch it again: agentflow watch {run.id[:8]}")
    return exit_codes.of_state(run.state)


def _next_key(run: Run, console: Console, table: LiveTable, keys: Keys) -> str | None:
    """Show the run as it goes until a key is pressed that means something; None once it has ended."""
    pace, stir = Pace(), run.stir()
    with Live(table, console=console, refresh_per_second=8, vertical_overflow="crop", transient=True):
        while True:
            try:
                if stir.is_felt():
                    table.show(run.refresh().view)
                pace.recover()
            except ServersUnreachable as error:
                pace.bear(error)
            else:
                if is_final(run.state):
                    return None
            key = keys.read(LOOK_SECONDS)
            if key == "q" or key in _ACTIONS:
                return key


def _act(run: Run, key: str, keys: Keys) -> str:
    """Do what a key means; returns what to say of it. An error is said, and the run watched on."""
    try:
        return _ACTIONS[key](run, keys)
    except AgentflowError as error:
        return str(error).splitlines()[0]


def _pause_or_resume(run: Run, _keys: Keys) -> str:
    if run.state is ShownRunState.PAUSED:
        run.resume()
        return "It goes on."
    asked = run.pause()
    return f"It is paused; {words.count(asked.running, 'attempt')} still to end."


def _cancel(run: Run, keys: Keys) -> str:
    if not _is_meant(f"Cancel run {run.id[:8]}?", keys):
        return "It was not cancelled."
    asked = run.cancel()
    below = f", and {words.count(asked.child_runs, 'child run')} cancelled with it" if asked.child_runs else ""
    return f"It is cancelled; {words.count(asked.stopping, 'attempt')} told to stop{below}."


def _approve(run: Run, keys: Keys) -> str:
    return _decide(run, keys, "Approve", lambda step: run.approve(step).state.value)


def _reject(run: Run, keys: Keys) -> str:
    return _decide(run, keys, "Reject", lambda step: run.reject(step).state.value)


def _decide(run: Run, keys: Keys, what: str, answer: Callable[[str], str]) -> str:
    """Ask about the gate that has waited longest, with its message."""
    asking = run.gates()
    gates = [view for view in asking if str(view.run_id) == run.id]
    if asking and not gates:
        short = words.short_id(asking[0].run_id)
        return words.printable(f"Gate {asking[0].step} of the child run {short} waits: agentflow watch {short}")
    if not gates:
        return "No gate waits for a decision."
    step, message = gates[0].step, words.printable(gates[0].gate.terms.message)
    if not _is_meant(f"{what} gate {step}{': ' if message else '?'}{message}", keys):
        return "Nothing was decided."
    return f"Gate {step} is {answer(step)}."


def _guide(run: Run, keys: Keys) -> str:
    with keys.typing():
        try:
            text = input("Tell the next model call (nothing: leave it): ")
        except (EOFError, KeyboardInterrupt):
            text = ""
    if not text.strip():
        return "Nothing was said."
    return f"The next model call is told {words.count(run.guide(text).bytes, 'byte')}."


def _is_meant(question: str, keys: Keys) -> bool:
    print(f"{question} [y/N] ", end="", flush=True)
    is_yes = keys.read(None) == "y"
    print("yes" if is_yes else "no")
    return is_yes


_ACTIONS: Mapping[str, Callable[[Run, Keys], str]] = {
    "p": _pause_or_resume,
    "c": _cancel,
    "a": _approve,
    "r": _reject,
    "g": _guide,
}
