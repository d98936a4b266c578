"""One supervisor process as its owner sees it: starting it, one command's conversation, its end.

Owns the socket and the process handle. Which supervisor serves which command is the pool's.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentflow.executors.base import Lifeline, StopReason
from agentflow.executors.command import Command, CommandResult, Ended, StartProblem, StreamRecord
from agentflow.executors.orphans import MARK_VARIABLE, end_orphans, mark_of
from agentflow.executors.regular_file import open_regular

_PROGRAM = str(Path(__file__).with_name("supervisor.py").absolute())
_MESSAGE_BYTES = 64 * 1024
_LEAVE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, and whether the supervisor ended the command because its lease lapsed."""

    result: CommandResult
    is_lapsed: bool = False


class SupervisorLink:
    """A supervisor of its own; raises OSError if the process cannot be started."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    # utf8: arguments and variables pass as the same bytes whatever the locale.
                    [sys.executable, "-I", "-S", "-X", "utf8", _PROGRAM, str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError:
            self._socket.close()
            raise
        self.pid = self._process.pid
        self._mark = mark_of(self.pid)
        self._sending = threading.Lock()
        self._serial = 0
        self._received = b""

    def is_alive(self) -> bool:
        """Whether the idle supervisor still holds its end of the socket."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def run(self, command: Command, lifeline: Lifeline) -> Answer:
        """Run one command to its end; a dead supervisor is an answer too."""
        self._serial += 1
        turn = _Turn(self, self._serial)
        try:
            self._socket.sendall(_line(self._order(command, lifeline.lease_seconds)))
            lifeline.on_renew(turn.renew)
            lifeline.on_stop(turn.stop)
            answer = self._receive_answer()
        except OSError:
            answer = None
        finally:
            turn.is_over = True
        return self._explain_loss(command) if answer is None else _read_answer(answer)

    def tell(self, message: Mapping[str, Any]) -> bool:
        """Send a short message without ever blocking the caller; False if it could not be sent."""
        with self._sending:
            try:
                self._socket.send(_line(message), socket.MSG_DONTWAIT)
            except OSError:
                return False
        return True

    def hang_up(self) -> None:
        """End the conversation: the supervisor ends its command and itself."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Have an idle supervisor leave, and wait until it has."""
        self._socket.close()
        self._wait()

    def abandon(self) -> None:
        """Turn away from a supervisor at work: it ends its command and leaves; nobody waits for it."""
        self._socket.close()
        with suppress(RuntimeError):  # the interpreter is already going: init will reap it
            threading.Thread(target=self._process.wait, name="supervisor-reaper", daemon=True).start()

    def let_go(self) -> None:
        """Drop what a fork inherited; the supervisor is the parent's."""
        self._socket.close()
        self._process.returncode = 0  # not ours to reap

    def _order(self, command: Command, lease_seconds: float) -> dict[str, Any]:
        return {
            "do": "run",
            "serial": self._serial,
            "argv": command.argv,
            "env": {**command.env, **({MARK_VARIABLE: self._mark} if self._mark else {})},
            "cwd": str(command.cwd),
            "stdin": None if command.stdin is None else str(command.stdin),
            "stdout": str(command.stdout),
            "stderr": str(command.stderr),
            "output_limit_bytes": command.output_limit_bytes,
            "masks": spellings(command.masks),
            "timeout_seconds": command.timeout_seconds,
            "kill_grace_seconds": command.kill_grace_seconds,
            "lease_seconds": lease_seconds,
        }

    def _receive_answer(self) -> dict[str, Any] | None:
        while b"\n" not in self._received:
            data = self._socket.recv(_MESSAGE_BYTES)
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _explain_loss(self, command: Command) -> Answer:
        self._process.kill()
        self._wait()
        end_orphans()
        return Answer(
            CommandResult(
                Ended.SUPERVISOR_LOST,
                stdout=_measure(command.stdout),
                stderr=_measure(command.stderr),
                message=f"its supervisor (pid {self.pid}) died with status {self._process.returncode}",
            )
        )

    def _wait(self) -> None:
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Turn:
    """One command's time with a supervisor; the lifeline may call long after it is over."""

    def __init__(self, link: SupervisorLink, serial: int) -> None:
        self._link = link
        self._serial = serial
        self.is_over = False

    def renew(self, ttl_seconds: float) -> None:
        if not self.is_over:
            # One that cannot be sent is missed: if they stay missing, the lease lapses, as it should.
            self._link.tell({"do": "renew", "serial": self._serial, "ttl_seconds": ttl_seconds})

    def stop(self, reason: StopReason) -> None:
        if not self.is_over and not self._link.tell({"do": "stop", "serial": self._serial}):
            self._link.hang_up()


def spellings(masks: tuple[str, ...]) -> list[str]:
    """The texts to mask: each secret as it is and as it stands inside a JSON string."""
    found: dict[str, None] = {}
    for mask in masks:
        for spelling in (mask, json.dumps(mask)[1:-1], json.dumps(mask, ensure_ascii=False)[1:-1]):
            found[spelling] = None
    return [spelling for spelling in found if spelling]


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _read_answer(answer: Mapping[str, Any]) -> Answer:
    result = CommandResult(
        ended=Ended(answer["ended"]),
        exit_code=answer.get("exit_code"),
        signal=answer.get("signal"),
        duration_seconds=answer.get("duration_seconds", 0.0),
        stdout=_read_record(answer.get("stdout")),
        stderr=_read_record(answer.get("stderr")),
        message=answer.get("message"),
        problem=StartProblem(answer["problem"]) if answer.get("problem") else None,
        problem_errno=answer.get("errno"),
    )
    return Answer(result, is_lapsed=answer.get("why") == "lapse")


def _read_record(record: Mapping[str, Any] | None) -> StreamRecord | None:
    return None if record is None else StreamRecord(**{**record, "path": Path(record["path"])})


def _measure(path: Path) -> StreamRecord | None:
    """What a lost supervisor left of a stream; it counts as cut, for nobody knows what was still to come."""
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError:
        return None
    return StreamRecord(path, bytes_seen=size, bytes_kept=size, sha256=digest, is_cut=True)
