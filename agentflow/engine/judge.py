"""Judge: what a performance means for its attempt. Reads output only to match the retry policy's messages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from agentflow.domain.action import Action, NotifyAction, PythonAction, SubprocessAction
from agentflow.domain.call import MEANINGS, Remedy
from agentflow.domain.outcome import AttemptOutcome, Cancelled, Failed, Released, Succeeded, TimedOut
from agentflow.domain.plan import Step
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.executors.base import CallRecord, Performance, StopReason
from agentflow.executors.command import Ended, StartProblem, StreamRecord
from agentflow.executors.regular_file import open_regular

RESULT_LIMIT_BYTES = 64 * 1024
MAX_POSTPONED_SECONDS = 24 * 3600.0
"""The longest that a step is snoozed because the other side asks for it."""
_MESSAGE_BYTES = 16 * 1024
_SHOWN_CHARACTERS = 200
_START_PROBLEMS: Mapping[StartProblem, str] = {
    StartProblem.PROGRAM_NOT_FOUND: "the program {program} was not found",
    StartProblem.PROGRAM_NOT_EXECUTABLE: "{program} is no program that can be executed (chmod +x, #! line)",
    StartProblem.INTERPRETER_MISSING: "{program} names an interpreter (#! line) that cannot be run",
    StartProblem.COMMAND_EMPTY: "its command {program} is empty",
    StartProblem.ARGUMENTS_UNUSABLE: "the arguments or the environment of {program} cannot be passed on",
    StartProblem.ARGUMENTS_TOO_LONG: "the arguments and the environment of {program} are longer than the system "
    "allows; pass large data in a file or on stdin",
    StartProblem.SHELL_MISMATCH: "a command that is a string needs shell: true, and one that is a list forbids it",
    StartProblem.CWD_MISSING: "its cwd {cwd} is no directory in its work directory",
    StartProblem.CWD_OUTSIDE: "its cwd {cwd} leads out of its work directory",
    StartProblem.CWD_CLOSED: "its cwd {cwd} may not be entered",
    StartProblem.STDIN_UNREADABLE: "its stdin cannot be read",
    StartProblem.STREAM_UNWRITABLE: "its stdout or stderr cannot be kept",
    StartProblem.DIRECTORY_ERROR: "its directory on the worker cannot be used",
    StartProblem.NO_ROOM: "the worker has no room for another process",
    StartProblem.NO_SUPERVISOR: "no supervisor can be started for it",
    StartProblem.SYSTEM_ERROR: "the system refuses to start {program}",
    StartProblem.CALL_NOT_ALLOWED: "the setting python_calls of its worker (AGENTFLOW_PYTHON_CALLS) does not allow "
    "{program}",
    StartProblem.CALL_NOT_FOUND: "its worker cannot import {program}; its stderr has the traceback",
}
_HOPELESS = (StartProblem.CALL_NOT_ALLOWED, StartProblem.CALL_NOT_FOUND)
"""What stays as it is until somebody changes the worker."""
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def judge(step: Step, performance: Performance, stop_reason: StopReason | None) -> AttemptOutcome:
    """Decide how an attempt ended."""
    match performance.ended:
        case Ended.STOPPED:
            return _stopped(performance, stop_reason)
        case Ended.TIMED_OUT:
            return TimedOut(Reason(ReasonCode.TIMED_OUT, {"timeout_seconds": step.timeout_seconds}))
        case Ended.NOT_STARTED:
            reason = Reason(ReasonCode.NOT_STARTED, {"problem": _why_not_started(step, performance)})
            return Failed(reason, is_permanent=performance.problem in _HOPELESS)
        case Ended.SUPERVISOR_LOST:
            return Failed(Reason(ReasonCode.SUPERVISOR_LOST), message="transient network")
        case Ended.EXITED if performance.call is not None:
            return _called(step, performance.call)
        case Ended.EXITED:
            return _exited(step, performance)


def _called(step: Step, call: CallRecord) -> AttemptOutcome:
    if call.problem is None:
        return _with_body(call) if step.outputs == "body_json" else Succeeded()
    meaning = MEANINGS[call.problem]
    detail: dict[str, Any] = {"problem": call.problem.value, "what": meaning.sentence}
    if call.provider_status is not None:
        detail |= {"status": call.provider_status}
    if meaning.remedy is Remedy.WAIT and call.retry_after_seconds is not None:
        seconds = min(call.retry_after_seconds, MAX_POSTPONED_SECONDS)
        return Released(Reason(ReasonCode.CALL_POSTPONED, detail | {"seconds": seconds}), delay_seconds=seconds)
    is_permanent = meaning.remedy in (Remedy.GIVE_UP, Remedy.SHORTEN)
    return Failed(Reason(ReasonCode.CALL_FAILED, detail), message=meaning.message, is_permanent=is_permanent)


def _with_body(call: CallRecord) -> AttemptOutcome:
    if call.answer is None:
        return Failed(Reason(ReasonCode.OUTPUT_INVALID, {"problem": "the answer has no body"}))
    with open_regular(call.answer) as file:
        return _with_json(file.read(RESULT_LIMIT_BYTES + 1), None)


def _why_not_started(step: Step, performance: Performance) -> str:
    """Say it with the plan's own words: a rendered value may hold another step's output, or a secret."""
    problem = performance.problem
    if problem is None:
        return "the reason is unknown"
    program = _program(step.action)
    if program is None:
        return problem.value
    cwd = step.action.cwd if isinstance(step.action, SubprocessAction) else "."
    sentence = _START_PROBLEMS[problem].format(program=_shown(program), cwd=_shown(cwd))
    system = "" if performance.problem_errno is None else f", {performance.problem_errno}"
    return f"{sentence} ({problem.value}{system})"


def _program(action: Action) -> str | None:
    """What was to be started, in the plan's own words; None of an action that starts nothing."""
    match action:
        case SubprocessAction(command=str()):
            return "/bin/sh"
        case SubprocessAction(command=tuple(words)) | NotifyAction(command=tuple(words)):
            return next(iter(words), "")
        case PythonAction(call=call):
            return call
        case _:
            return None


def _shown(template: str) -> str:
    return repr(template if len(template) <= _SHOWN_CHARACTERS else f"{template[:_SHOWN_CHARACTERS]}...")


def _stopped(performance: Performance, stop_reason: StopReason | None) -> AttemptOutcome:
    if stop_reason is StopReason.CANCELLED:
        return Cancelled(Reason(ReasonCode.CANCELLED, {"actor": "request"}))
    return Released(_why_given_back(stop_reason), was_started=performance.duration_seconds > 0)


def _why_given_back(stop_reason: StopReason | None) -> Reason:
    match stop_reason:
        case StopReason.PAUSED:
            return Reason(ReasonCode.PAUSED, {"actor": "request"})
        case StopReason.LEASE_LOST:
            return Reason(ReasonCode.SERVERS_AWAY)
        case _:
            return Reason(ReasonCode.DRAINED)


def _exited(step: Step, performance: Performance) -> AttemptOutcome:
    accepted = step.action.ok_exit_codes if isinstance(step.action, SubprocessAction) else (0,)
    if performance.exit_code in accepted:
        return _with_result(step, performance)
    message = _tail(performance.stderr) + _tail(performance.stdout)
    if performance.raised is not None:
        reason = Reason(ReasonCode.RAISED, {"error": performance.raised})
        return Failed(reason, exit_code=performance.exit_code, message=message)
    if performance.exit_code is None:
        return Failed(Reason(ReasonCode.SIGNALLED, {"signal": performance.signal}), message=message)
    reason = Reason(ReasonCode.EXIT_CODE, {"exit_code": performance.exit_code})
    return Failed(reason, exit_code=performance.exit_code, message=message)


def _with_result(step: Step, performance: Performance) -> AttemptOutcome:
    raw = performance.output
    if raw is None and step.outputs == "stdout_json":
        raw = _head(performance.stdout)
    if raw is None:
        return Succeeded(performance.exit_code)
    return _with_json(raw, performance.exit_code)


def _with_json(raw: bytes, exit_code: int | None) -> AttemptOutcome:
    if len(raw) > RESULT_LIMIT_BYTES:
        reason = Reason(ReasonCode.OUTPUT_TOO_LARGE, {"limit_bytes": RESULT_LIMIT_BYTES})
        return Failed(reason, exit_code=exit_code, is_permanent=True)
    try:
        result: Any = json.loads(raw, parse_constant=_refuse_constant)
        _check_storable(result)
    except (ValueError, RecursionError) as error:
        problem = type(error).__name__ if not isinstance(error, json.JSONDecodeError) else error.msg
        return Failed(Reason(ReasonCode.OUTPUT_INVALID, {"problem": problem}), exit_code=exit_code)
    return Succeeded(exit_code, result=result, has_result=True)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check_storable(result: Any) -> None:
    """Raise ValueError for what JSON can say and Postgres cannot keep: NUL, half a surrogate pair, 1e999."""
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    text.encode()
    if _NUL.search(text):
        raise ValueError("a text in it holds NUL")


def _head(stream: StreamRecord | None) -> bytes:
    if stream is None:
        return b""
    with suppress(OSError), open_regular(stream.path) as file:  # the command may have replaced it: then it says nothing
        return file.read(RESULT_LIMIT_BYTES + 1)
    return b""


def _tail(stream: StreamRecord | None) -> str:
    if stream is None:
        return ""
    with suppress(OSError), open_regular(stream.path) as file:
        file.seek(max(0, stream.bytes_kept - _MESSAGE_BYTES))
        return file.read(_MESSAGE_BYTES).decode("utf-8", errors="replace")
    return ""
