"""The tools themselves. Who calls is given by the transport: the settings' actor over stdio, a key over HTTP.

The client blocks, so that every tool works in a thread of its own. An error of ours becomes the tool's error, with the
words that the command line prints: an agent can act on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import Field, ValidationError

from agentflow import __version__
from agentflow.client import AgentFlow, Run
from agentflow.client.conflicts import told
from agentflow.client.documents import opened_document
from agentflow.domain.api_key import Role
from agentflow.domain.error import AgentflowError, InvalidTransition, NotAllowed
from agentflow.domain.misfit import misfit_of
from agentflow.domain.state import ShownRunState
from agentflow.domain.why_words import sentence
from agentflow.mcp.shapes import RunLine, RunStatus

INSTRUCTIONS = (
    "agentflow runs plans of agent work: commands, model calls and HTTP calls, with budgets and approvals. Launch a "
    "stored plan or a plan document, then ask for its status until it has ended; a run that is `waiting` waits for a "
    "person or an approval, and agent_why tells what stands in the way of any run."
)
_READS = ToolAnnotations(readOnlyHint=True, openWorldHint=False)
_STARTS = ToolAnnotations(readOnlyHint=False, destructiveHint=False, idempotentHint=False, openWorldHint=True)
_ENDS = ToolAnnotations(readOnlyHint=False, destructiveHint=True, idempotentHint=True, openWorldHint=False)
# Not idempotent: a run may wait at its next gate by then, and a call that names no step would decide that.
_DECIDES = ToolAnnotations(readOnlyHint=False, destructiveHint=False, idempotentHint=False, openWorldHint=True)

Answer = TypeVar("Answer")
RunId = Annotated[str, Field(description="A run: its id, a unique prefix of it, or @last.")]


@dataclass(frozen=True, slots=True)
class Acting:
    """In whose name a tool acts, as what, and in which project; no project means all."""

    flow: AgentFlow
    role: Role = Role.ADMIN
    project: str | None = None

    def check(self, needed: Role) -> None:
        """Raise NotAllowed for a role that does not include ``needed``."""
        if not self.role.includes(needed):
            raise NotAllowed(f"This takes a key of role {needed.value}, not {self.role.value}.", needed=needed.value)

    def run(self, reference: str) -> Run:
        """Return a run that may be seen. Raises NotFound and AmbiguousId."""
        return self.flow.get(reference, project=self.project)


def make_server(who: Callable[[], Acting]) -> MCPServer[Any]:
    """Build the server; ``who`` says in whose name a call is."""
    tools = Tools(who)
    offered = (
        (tools.agent_launch, _STARTS),
        (tools.agent_status, _READS),
        (tools.agent_list, _READS),
        (tools.agent_report, _READS),
        (tools.agent_why, _READS),
        (tools.agent_cancel, _ENDS),
        (tools.agent_approve, _DECIDES),
    )
    return MCPServer(
        "agentflow",
        instructions=INSTRUCTIONS,
        version=__version__,
        log_level="WARNING",
        tools=[_strict(tool, hints) for tool, hints in offered],
    )


class _StrictTool(Tool):
    """A tool that tells in our words what does not fit of its arguments."""

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Run it. Raises ToolError."""
        try:
            return await super().run(arguments, context, convert_result=convert_result)
        except ToolError as error:
            if type(error) is not ToolError or not isinstance(error.__cause__, ValidationError):
                raise
            found = error.__cause__.errors(include_url=False)
            misfit = misfit_of(found, arguments, self.fn_metadata.arg_model.model_fields)
            raise ToolError(f"Error executing tool {self.name}: {misfit.code}: {misfit}") from None


def _strict(work: Callable[..., Any], hints: ToolAnnotations) -> Tool:
    """Make a tool that refuses arguments that it does not have: a guessed ``dry_run`` must not be a real run.

    Nor does it guess what a value of another type means: an approval that was written as a text is none.
    """
    tool = _StrictTool.from_function(work, annotations=hints)
    arguments = tool.fn_metadata.arg_model
    arguments.model_config |= {"extra": "forbid", "strict": True}
    arguments.model_rebuild(force=True)
    tool.parameters = arguments.model_json_schema(by_alias=True)
    return tool


class Tools:
    """The tools; their names, signatures and words are what an agent is shown."""

    def __init__(self, who: Callable[[], Acting]) -> None:
        self._who = who

    async def agent_launch(
        self,
        plan: Annotated[
            str | dict[str, Any], Field(description="NAME or NAME@VERSION of a stored plan, or a plan document.")
        ],
        vars: Annotated[dict[str, Any] | None, Field(description="Values of the plan's vars.")] = None,  # noqa: A002 - the plan format's own name
        budget: Annotated[
            dict[str, Any] | None, Field(description="Caps over the plan's: steps, tokens, usd, active_time.")
        ] = None,
        idempotency_key: Annotated[
            str | None, Field(description="The same key with the same launch is the same run.")
        ] = None,
    ) -> RunLine:
        """Start a run and return at once. Ask agent_status how it goes on."""

        def launch(acting: Acting) -> RunLine:
            flow, where = acting.flow, acting.project
            if isinstance(plan, str):
                made = flow.submit_stored(plan, vars, project=where, budget=budget, idempotency_key=idempotency_key)
            else:
                with opened_document(plan, {}, where) as loaded:
                    made = flow.submit(loaded, vars, project=where, budget=budget, idempotency_key=idempotency_key)
            return RunLine.of(made.summary)

        return await self._work(Role.OPERATOR, launch)

    async def agent_status(self, run: RunId) -> RunStatus:
        """Tell how a run stands: its state, its steps by state, what failed and why, and which gates wait."""
        return await self._work(Role.VIEWER, lambda acting: RunStatus.of(acting.run(run)))

    async def agent_list(
        self,
        state: Annotated[str | None, Field(description="Only in this state, such as running or failed.")] = None,
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
    ) -> list[RunLine]:
        """List runs, the newest first."""

        def read(acting: Acting) -> list[RunLine]:
            return [
                RunLine.of(run.summary) for run in acting.flow.runs(state=state, project=acting.project, limit=limit)
            ]

        return await self._work(Role.VIEWER, read)

    async def agent_report(self, run: RunId) -> str:
        """Report on a run in Markdown: timeline, steps, usage, gates, artifacts; never what was said."""
        return await self._work(Role.VIEWER, lambda acting: acting.run(run).report("md"))

    async def agent_why(
        self, run: RunId, step: Annotated[str | None, Field(description="One step of the run.")] = None
    ) -> str:
        """Tell in a sentence why a run, or a step of it, is where it is, and what would help."""

        def explain(acting: Acting) -> str:
            explained = acting.flow.why(acting.run(run), step, project=acting.project)
            advice = "" if explained.advice is None else f" {explained.advice.replace('{run}', str(explained.run_id))}"
            return f"{explained.step or 'The run'} {sentence(explained.why)}.{advice}"

        return await self._work(Role.VIEWER, explain)

    async def agent_cancel(self, run: RunId) -> RunLine:
        """End a run: what waits ends now, what runs is told to stop. One that was cancelled stays so; call it again."""

        def cancel(acting: Acting) -> RunLine:
            found = acting.run(run)
            try:
                found.cancel()
            except InvalidTransition:
                if found.refresh().state is not ShownRunState.CANCELLED:  # ended so, it is as the caller wants it
                    raise
            return RunLine.of(found.refresh().summary)

        return await self._work(Role.OPERATOR, cancel)

    async def agent_approve(
        self,
        run: RunId,
        approve: Annotated[bool, Field(description="True to approve, False to reject.")],
        step: Annotated[str | None, Field(description="The gate, where several are open.")] = None,
        why: Annotated[str | None, Field(description="Why, in a line.")] = None,
        form: Annotated[dict[str, Any] | None, Field(description="Values of the gate's form.")] = None,
    ) -> RunStatus:
        """Approve or reject the gate that a run waits at. Who submitted a run may not approve it."""

        def decide(acting: Acting) -> RunStatus:
            found = acting.run(run)
            if approve:
                found.approve(step, why=why, form=form)
            else:
                found.reject(step, why=why)
            return RunStatus.of(found.refresh())

        return await self._work(Role.OPERATOR, decide)

    async def _work(self, needed: Role, work: Callable[[Acting], Answer]) -> Answer:
        acting = self._who()
        try:
            acting.check(needed)
            return await to_thread.run_sync(partial(work, acting))
        except Exception as error:
            known = told(error)
            if not isinstance(known, AgentflowError):
                raise
            raise ToolError(f"{known.code}: {known}") from None
