"""Inputs: what a plan brings along beside its rows (prompts, system texts, stdin, files) and where the store has it.

Owns the addresses of what is handed in, with a run or with a stored plan, and that it is what the plan says it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from agentflow.content.store import Address
from agentflow.domain.action import (
    Action,
    ApprovalAction,
    ContentRef,
    DecisionAction,
    GroupAction,
    HttpAction,
    LlmAction,
    NoopAction,
    NotifyAction,
    PythonAction,
    RunAction,
    SubprocessAction,
    WaitAction,
)
from agentflow.domain.error import ContentError
from agentflow.domain.ids import RunId
from agentflow.domain.plan import Plan
from agentflow.engine.context import EngineContext
from agentflow.engine.registration import check_registration
from agentflow.telemetry import get_logger

log = get_logger(__name__)

STDIN, SYSTEM, PROMPT, JSON = "stdin", "system", "prompt", "json"
"""What an action's content is called, here and in Assignment.texts."""


def content_of(action: Action) -> dict[str, ContentRef]:
    """The action's templates that were taken out of the plan as content, by name."""
    match action:
        case SubprocessAction(stdin=stdin):
            wanted = {STDIN: stdin}
        case LlmAction(system=system, prompt=prompt):
            wanted = {SYSTEM: system, PROMPT: prompt}
        case HttpAction(body=body):
            wanted = {JSON: body}
        case PythonAction(args=args):
            wanted = {JSON: args}
        case NoopAction() | NotifyAction() | GroupAction():
            wanted = {}
        case DecisionAction() | WaitAction() | ApprovalAction() | RunAction():
            wanted = {}
    return {name: ref for name, ref in wanted.items() if ref is not None}


def content_hashes(plan: Plan) -> Iterator[str]:
    """The hash of every text that was taken out of the plan, each once."""
    yield from dict.fromkeys(ref.sha256 for step in plan.every_step for ref in content_of(step.action).values())


def input_address(owner: RunId | str, sha256: str) -> Address:
    """Where content that was handed in with a run stands in the store, or with a stored plan (its ``plan_owner``)."""
    return Address(str(owner), sha256)


def plan_owner(fingerprint: str) -> str:
    """What stands for a run in the addresses of a stored plan's inputs."""
    return f"plan-{fingerprint}"


def file_children(plan: Plan) -> Iterator[str]:
    """The fingerprint of every plan of a child run that is a file, each once; it is the hash of its document."""
    actions = [step.action for step in plan.every_step]
    yield from dict.fromkeys(each.fingerprint for each in actions if isinstance(each, RunAction) and each.fingerprint)


def read_input(context: EngineContext, owner: RunId | str, sha256: str) -> bytes:
    """Read one of the texts that were handed in. ContentError when it is gone, or is not what it was."""
    with context.store.open(input_address(owner, sha256)) as file:
        text = file.read()
    if hashlib.sha256(text).hexdigest() != sha256:
        raise ContentError(f"{sha256!r} in the content store is not what it was")
    return text


def brought_hashes(context: EngineContext, owner: RunId | str, plan: Plan) -> Iterator[str]:
    """The hash of everything that ``owner`` has for the child runs of ``plan`` whose plans are files.

    ContentError when a document of them is gone.
    """
    work, seen = [plan], set[str]()
    while work:
        for fingerprint in file_children(work.pop()):
            if fingerprint in seen:
                continue
            seen.add(fingerprint)
            child = Plan.from_stored(read_input(context, owner, fingerprint))
            yield fingerprint
            yield from content_hashes(child)
            yield from (file.sha256 for file in child.files)
            work.append(child)


def every_hash(context: EngineContext, owner: RunId | str, plan: Plan) -> dict[str, None]:
    """The hash of everything that was handed in with ``plan``, each once. ContentError as ``brought_hashes``."""
    own = [*content_hashes(plan), *(file.sha256 for file in plan.files)]
    return dict.fromkeys([*own, *brought_hashes(context, owner, plan)])


def take_inputs(context: EngineContext, source: RunId | str, owner: RunId | str, plan: Plan) -> bool:
    """Give ``owner`` all that ``source`` has for ``plan``; False when something of it is not there any more."""
    check_registration(context.database, context.store, context.audit_key)
    try:
        hashes = every_hash(context, source, plan)
    except ContentError:
        return False
    return all(context.store.copy(input_address(source, each), input_address(owner, each)) for each in hashes)


def keep_inputs(
    context: EngineContext,
    owner: RunId | str,
    plan: Plan,
    content: Mapping[str, bytes],
    files: Mapping[str, Path],
    brought: Mapping[str, bytes | Path] | None = None,
) -> None:
    """Put what ``plan`` brings along into the store; ``brought`` is what the plans of its child runs do, by hash.

    Raises StoreMismatch when this process sees another store than the workers, ContentError when it refuses.
    """
    check_registration(context.database, context.store, context.audit_key)
    for sha256, text in content.items():
        context.store.put(input_address(owner, sha256), text)
    for file in plan.files:
        address = input_address(owner, file.sha256)
        context.store.put_file(address, files[file.path])
        _check_captured(context, address, file.path, file.sha256)
    for sha256, what in (brought or {}).items():
        address = input_address(owner, sha256)
        if isinstance(what, bytes):
            context.store.put(address, what)
        else:
            context.store.put_file(address, what)
            _check_captured(context, address, what.name, sha256)


def _check_captured(context: EngineContext, address: Address, path: str, sha256: str) -> None:
    with context.store.local_path(address).open("rb") as stored:
        if hashlib.file_digest(stored, "sha256").hexdigest() != sha256:
            raise ContentError(f"The file {path} changed while it was captured; submit again")


def forget_run(context: EngineContext, run_id: RunId) -> None:
    """Remove what a run had been given that is not made after all; what resists is logged and left."""
    try:
        context.store.delete_run(str(run_id))
    except ContentError as error:
        log.warning("content_left_behind", run_id=str(run_id), error=str(error))
