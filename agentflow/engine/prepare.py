"""Prepare: turn a claimed step into an assignment, its templates rendered and its files laid out.

Rendered values live in this process and in the attempt's scratch directory (0700), which goes when the attempt ends.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from agentflow.content.store import Address
from agentflow.domain import expression
from agentflow.domain.action import (
    Action,
    ContentRef,
    HttpAction,
    LlmAction,
    NoopAction,
    NotifyAction,
    PythonAction,
    SubprocessAction,
)
from agentflow.domain.error import ContentError, TemplateError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.plan import Plan, StepInput
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.reference import Reference
from agentflow.engine.claim import Claimed
from agentflow.engine.context import EngineContext
from agentflow.engine.gather import Scope, artifact_name, gather, read_facts
from agentflow.engine.guide import with_guidance
from agentflow.engine.inputs import JSON, STDIN, SYSTEM, content_of, input_address
from agentflow.engine.summarise import summarise
from agentflow.engine.trace import trace_environment
from agentflow.executors.base import Assignment, Limits
from agentflow.executors.environment import allowed_environment
from agentflow.executors.notify import NOTICE_TEXT
from agentflow.settings import secret_from_environment
from agentflow.storage import steps


class Unprepared(Exception):
    """The step cannot be prepared, and would not be the next time either; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


def has_scratch(action: Action) -> bool:
    """Whether an action is performed with a directory of its own."""
    return not isinstance(action, NoopAction)


def has_work(action: Action) -> bool:
    """Whether an action is performed in a work directory, with the plan's files and the step's inputs in it."""
    return isinstance(action, SubprocessAction | PythonAction) or (
        isinstance(action, NotifyAction) and action.command is not None
    )


def prepare(context: EngineContext, claimed: Claimed, scratch: Path) -> Assignment:
    """Build the assignment for a claimed step, inside ``scratch`` if it wants a directory; raises Unprepared."""
    step = claimed.step
    try:
        contents = _contents(context, claimed.run_id, step.action)
        references = _references(step.action, contents)
        secrets = _secrets(claimed.plan.plan, references)
        scope = Scope(claimed.plan.plan, claimed.key)
        facts = _facts(context, claimed.run_id, scope, references, {scope.row(wish.step) for wish in step.inputs})
        values = gather(
            context, claimed.run_id, references, facts, scope=scope, variables=claimed.vars, secrets=secrets
        )
        if has_work(step.action):
            files = {wish: facts[scope.row(wish.step)] for wish in step.inputs}
            _lay_out(context, claimed, files, scratch / "work")
        action = _rendered(step.action, values)
        texts = {name: _render_content(name, text, values) for name, text in contents.items()}
        if isinstance(action, NotifyAction):
            texts[NOTICE_TEXT] = summarise(context, claimed.run_id, claimed.step_id, claimed.key)
        texts = with_guidance(context, claimed.run_id, claimed.guidance, texts, SYSTEM)
        stdin_path = _write_stdin(scratch, texts.pop(STDIN, None))
    except TemplateError as error:
        raise Unprepared(Reason(ReasonCode.TEMPLATE, {"problem": str(error)})) from error
    except ContentError as error:
        raise Unprepared(Reason(ReasonCode.CONTENT, {"problem": str(error)})) from error
    return Assignment(
        run_id=str(claimed.run_id),
        step_key=claimed.key,
        attempt=claimed.number,
        action=action,
        scratch=scratch,
        timeout_seconds=step.timeout_seconds,
        kill_grace_seconds=context.settings.kill_grace_seconds,
        stdin=stdin_path,
        texts=texts,
        masks=tuple(value for value in secrets.values() if value),
        environment=allowed_environment(os.environ) | trace_environment(context, claimed.run_id, claimed.attempt_id),
        limits=Limits(output_bytes=context.settings.output_limit_bytes),
    )


def _secrets(plan: Plan, references: Iterable[Reference]) -> dict[str, str]:
    """Return the plan's secrets that are here, all of which are masked; those that the step refers to must be."""
    found = {name: secret_from_environment(name) for name in plan.secrets}
    for name in sorted(reference.names[0] for reference in references if reference.root == "secrets"):
        if found.get(name) is None:
            raise Unprepared(Reason(ReasonCode.SECRET_MISSING, {"name": name}))
    return {name: value for name, value in found.items() if value is not None}


def _contents(context: EngineContext, run_id: RunId, action: Action) -> dict[str, str]:
    return {name: _content(context, run_id, ref) for name, ref in content_of(action).items()}


def _content(context: EngineContext, run_id: RunId, ref: ContentRef) -> str:
    with context.store.open(input_address(run_id, ref.sha256)) as file:
        return file.read().decode("utf-8")


def references_of(context: EngineContext, run_id: RunId, action: Action) -> frozenset[Reference]:
    """What the templates of an action refer to; those that are content are read from the run's inputs."""
    return _references(action, _contents(context, run_id, action))


def _references(action: Action, contents: Mapping[str, str]) -> frozenset[Reference]:
    return frozenset().union(*(expression.references(text) for text in _texts(action, contents)))


def _facts(
    context: EngineContext, run_id: RunId, scope: Scope, references: Collection[Reference], also: set[StepKey]
) -> dict[StepKey, steps.StepFacts]:
    if not also and not scope.rows(references):
        return {}
    with context.database.transaction() as tx:
        return read_facts(tx, run_id, scope, references, also)


def _texts(action: Action, contents: Mapping[str, str]) -> Iterator[str]:
    match action:
        case SubprocessAction():
            yield from [action.command] if isinstance(action.command, str) else action.command
            yield from action.env.values()
            yield action.cwd
        case LlmAction():
            yield action.model
        case HttpAction():
            yield action.url
            yield from action.headers.values()
        case NotifyAction():
            yield from [action.webhook] if action.webhook else action.command or action.email or ()
        case _:  # what the engine decides is not prepared; the others have no texts here
            pass
    for name, text in contents.items():
        yield from _leaves(json.loads(text)) if name == JSON else (text,)


def _leaves(value: Any) -> Iterator[str]:
    """The texts in a JSON value; keys are no templates."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)


def _rendered(action: Action, values: Mapping[str, Any]) -> Action:
    def rendered(text: str) -> str:
        return expression.render_argument(text, values)

    def rendered_values(texts: Mapping[str, str]) -> dict[str, str]:
        return {name: rendered(text) for name, text in texts.items()}

    match action:
        case SubprocessAction():
            return action.model_copy(
                update={
                    "command": _command(action.command, values),
                    "env": rendered_values(action.env),
                    "cwd": rendered(action.cwd),
                }
            )
        case LlmAction():
            return action.model_copy(update={"model": rendered(action.model)})
        case HttpAction():
            return action.model_copy(update={"url": rendered(action.url), "headers": rendered_values(action.headers)})
        case NotifyAction():
            return action.model_copy(
                update={
                    "webhook": action.webhook and rendered(action.webhook),
                    "email": action.email and tuple(rendered(address) for address in action.email),
                    "command": action.command and tuple(rendered(part) for part in action.command),
                }
            )
        case _:
            return action


def _render_content(name: str, text: str, values: Mapping[str, Any]) -> str:
    if name != JSON:
        return expression.render(text, values)
    return json.dumps(_rendered_json(json.loads(text), values), ensure_ascii=False)


def _rendered_json(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return expression.render(value, values)
    if isinstance(value, list):
        return [_rendered_json(item, values) for item in value]
    if isinstance(value, dict):
        return {key: _rendered_json(item, values) for key, item in value.items()}
    return value


def _command(command: tuple[str, ...] | str, values: Mapping[str, Any]) -> tuple[str, ...] | str:
    if isinstance(command, str):
        return expression.render_argument(command, values)
    return tuple(expression.render_argument(part, values) for part in command)


def _write_stdin(scratch: Path, text: str | None) -> Path | None:
    if text is None:
        return None
    path = scratch / "stdin"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path


def _lay_out(
    context: EngineContext,
    claimed: Claimed,
    inputs: Mapping[StepInput, steps.StepFacts],
    work: Path,
) -> None:
    work.mkdir(mode=0o700)
    for file in claimed.plan.plan.files:
        source = context.store.local_path(input_address(claimed.run_id, file.sha256))
        _copy(source, work / file.path, mode=0o700 if file.executable else 0o600)
    for wish, of_step in inputs.items():
        for name, target in _matches(wish, of_step.artifacts).items():
            address = Address(str(claimed.run_id), artifact_name(name), of_step.key, of_step.attempt)
            _copy(context.store.local_path(address), work / target, mode=0o600)


def _matches(wish: StepInput, names: Iterable[str]) -> dict[str, str]:
    """Which of a step's artifacts an input asks for, and where each goes: a glob's into its folder."""
    is_glob = any(character in wish.artifact for character in "*?[")
    if is_glob:
        found = {name: f"{wish.path}/{name}" for name in names if fnmatchcase(name, wish.artifact)}
    else:
        found = {name: wish.path for name in names if name == wish.artifact}
    if not found:
        raise ContentError(f"step {wish.step!r} left no artifact {wish.artifact!r}")
    return found


def _copy(source: Path, target: Path, *, mode: int) -> None:
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)
    except OSError as error:
        raise ContentError(f"{target.name} cannot be laid into the work directory: {error.strerror}") from error
