"""The supervisor's event loop: its owner's messages, its children's ends, output, deadlines; one command at a time.

Owns the wire (JSON lines over a socket) and the bond to the owner: when the socket closes or the owner's process ends,
the running command is ended and the supervisor leaves. Never polls: it sleeps until something happens or is due.
Standard library only: the command supervisor loads this module without the rest of agentflow.

Orders: {"do": "run", "serial": n, ...Command, "lease_seconds": s} · {"do": "renew", "serial": n, "ttl_seconds": s} ·
{"do": "stop", "serial": n}. The one answer: {"serial": n, ...CommandResult}. An order for another serial than the
running one came late and does nothing.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
from functools import partial

from agentflow.executors.process_tree import become_reaper
from agentflow.executors.running_command import OWNER_GONE, STOP, RunningCommand
from agentflow.executors.spawning import NotStartedError

# Spelled out, not imported: typing costs the supervisor a tenth of its start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MESSAGE_BYTES = 64 * 1024
# What a person or a service manager sends to a whole group: this process leaves with its owner, not before it.
_SHRUGGED_OFF = (
    "SIGTERM",
    "SIGINT",
    "SIGHUP",
    "SIGQUIT",
    "SIGPIPE",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGXFSZ",
    "SIGCHLD",
)


def reset_signals() -> None:
    """Give this process default signals, as its commands shall find them, whatever its owner ignores or blocks.

    The signals that it survives itself get a handler, not SIG_IGN: exec turns handlers into defaults again.
    """
    for number in signal.valid_signals():
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # KILL, STOP and those the C library keeps for itself
    for name in _SHRUGGED_OFF:
        signal.signal(getattr(signal, name), lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class SupervisorLoop:
    """Runs the commands of the process ``owner_pid``, whose socket is ``control``."""

    def __init__(self, control: socket.socket, owner_pid: int) -> None:
        self._control = control
        self._is_owned = True
        self._received = b""
        self._running: RunningCommand | None = None
        self._is_reaper = become_reaper()
        self._selector = selectors.DefaultSelector()
        control.setblocking(False)
        self._selector.register(control, selectors.EVENT_READ, self._receive)
        self._watch_children()
        self._watch_owner(owner_pid)

    def serve(self) -> None:
        """Run commands until the owner is gone and nothing of its last command is left."""
        while self._is_owned or self._running is not None:
            timeout = None if self._running is None else self._running.seconds_until_due()
            for key, _ in self._selector.select(timeout):
                key.data()
            if self._running is not None and self._running.advance():
                self._finish(self._running)

    def _watch_children(self) -> None:
        wakeup, self._wakeup = socket.socketpair()
        wakeup.setblocking(False)
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        self._selector.register(wakeup, selectors.EVENT_READ, partial(wakeup.recv, 4096))

    def _watch_owner(self, owner_pid: int) -> None:
        # The socket alone could be held open by a fork of the owner.
        try:
            owner = os.pidfd_open(owner_pid)
        except (AttributeError, OSError):  # no such thing here, or already gone: the parent's pid tells
            owner = None
        if os.getppid() != owner_pid:
            self._is_owned = False
        elif owner is not None:
            self._selector.register(owner, selectors.EVENT_READ, partial(self._lose_owner, owner))

    def _lose_owner(self, watched: int | socket.socket) -> None:
        self._selector.unregister(watched)
        self._is_owned = False
        if self._running is not None:
            self._running.end(OWNER_GONE)

    def _receive(self) -> None:
        try:
            data = self._control.recv(_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose_owner(self._control)
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if order["do"] == "run":
            if self._is_owned:
                self._start(order)
        elif self._running is not None and self._running.serial == order["serial"]:
            if order["do"] == "renew":
                self._running.renew(order["ttl_seconds"])
            else:
                self._running.end(STOP)

    def _start(self, order: dict[str, Any]) -> None:
        try:
            self._running = RunningCommand(order, is_reaper=self._is_reaper)
        except NotStartedError as error:
            found = {"problem": error.problem, "errno": error.errno_name, "message": str(error)}
            self._answer(order["serial"], {"ended": "not_started", **found})
            return
        for pipe in self._running.pipes:
            self._selector.register(pipe, selectors.EVENT_READ, partial(self._read, self._running, pipe))

    def _read(self, command: RunningCommand, pipe: int) -> None:
        if command.read(pipe) == 0:
            self._selector.unregister(pipe)
            command.close_pipe(pipe)

    def _finish(self, command: RunningCommand) -> None:
        for pipe in command.pipes:
            self._selector.unregister(pipe)
        self._running = None
        self._answer(command.serial, command.report())

    def _answer(self, serial: int, result: dict[str, Any]) -> None:
        self._control.setblocking(True)
        try:
            self._control.sendall(json.dumps({"serial": serial, **result}).encode() + b"\n")
        except OSError:
            self._is_owned = False  # nobody is left to be told
        finally:
            self._control.setblocking(False)
