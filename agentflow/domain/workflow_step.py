"""What a node's step does, as a plan writes it: a model call, an operation, or nothing.

Owns how agents and operations become actions: an agent's texts read ``{{ input }}`` and ``{{ request }}``, a command
has the node's input as JSON on stdin, a function in its argument ``input``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentflow.domain.workflow import ARGUMENT, NODE_TIMEOUT, Kind, Node, Role, Workflow
from agentflow.domain.workflow_value import Output, Source, expression_of, written_in

Document = dict[str, Any]


class _Words(Mapping[str, str]):
    """What the words of an agent's texts stand for, written when one of them is used."""

    def __init__(self, values: Mapping[str, Source]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return expression_of(self._values[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values


def output_of(workflow: Workflow, node: Node, step: str) -> Output | None:
    """Return where what a node puts out is read; None for one that hands on what it was given."""
    if node.kind is Kind.AGENT and node.agent_id is not None:
        has_schema = "output_schema" in workflow.agents[node.agent_id].llm
        return Output(step, "result") if has_schema else Output(step, "text", is_text=True)
    if node.operation is None:
        return None
    operation = workflow.operations[node.operation]
    if operation.action != "subprocess":
        return Output(step, "result")
    return Output(step, "stdout", is_json=operation.is_json, is_text=not operation.is_json)


def performed(workflow: Workflow, node: Node, given: Source, request: Source) -> Document:
    """Return the action of a node's step, with its timeout. UnreadableError where it reads what cannot be written."""
    if node.kind is Kind.AGENT and node.agent_id is not None:
        agent = workflow.agents[node.agent_id]
        words = _Words({"input": given, "request": request})
        texts = {name: written_in(agent.llm[name], words) for name in ("system", "prompt") if _is_text(agent.llm, name)}
        return {"llm": {**agent.llm, **texts}, "timeout": agent.timeout or NODE_TIMEOUT}
    if node.operation is not None:
        operation = workflow.operations[node.operation]
        written = f"{{{{ ({expression_of(given)}) | tojson }}}}"
        fields = dict(operation.fields)
        if operation.action == "subprocess":
            fields["stdin"] = written
        else:
            fields["args"] = {**fields.get("args", {}), ARGUMENT: written}
            fields["json_args"] = [*fields.get("json_args", ()), ARGUMENT]
        return {operation.action: fields, "timeout": operation.timeout or NODE_TIMEOUT}
    if node.role is Role.EXIT and node.always_fails:
        return {"switch": {"on": "'always_fail'", "cases": {"completed": []}, "fail": ["always_fail"]}}
    return {"noop": {}, "timeout": NODE_TIMEOUT}


def _is_text(fields: Mapping[str, Any], name: str) -> bool:
    return isinstance(fields.get(name), str)
