"""One request to a model and its answer, as agentflow sees them: plain values on both sides of pydantic-ai.

Owns the wording for pydantic-ai and the hash that names a request. It lets nothing of a response through but the
answer, the counts and the finish reason.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentflow.domain.action import LlmAction
from agentflow.domain.budget import MAX_TOKENS
from agentflow.executors.answer_schema import without_fence
from agentflow.executors.base import Assignment
from agentflow.executors.model_clients import Sending, sending
from agentflow.executors.providers import Credential, ProviderKind

if TYPE_CHECKING:
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked."""

    action: LlmAction
    prompt: str = field(repr=False)
    system: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, assignment: Assignment) -> Question:
        """Take the question out of an assignment, whose action must be an llm action."""
        if not isinstance(assignment.action, LlmAction):
            raise TypeError(f"this executor performs llm actions, not {assignment.action.type}")
        texts = assignment.texts
        return cls(assignment.action, texts.get("prompt", ""), texts.get("system"))

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that is said to the model, without the schema."""
        return (self.prompt,) if self.system is None else (self.system, self.prompt)

    def sha256(self) -> str:
        """Name the request: the same for the same model, texts and settings."""
        action = self.action
        settings = action.model_dump(mode="json", include={"max_tokens", "temperature", "seed", "output_schema"})
        request = {"model": action.model, "system": self.system, "prompt": self.prompt, "settings": settings}
        canonical = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and the counts that its provider reported; ``is_measured`` if there were any to believe."""

    text: str = field(repr=False)
    finish_reason: str | None
    is_measured: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int


async def ask(model: Model[Any], question: Question, credential: Credential, watched: Sending) -> Answer:
    """Make the request on the current loop. Raises what pydantic-ai raises."""
    from pydantic_ai.direct import model_request
    from pydantic_ai.messages import ModelRequest, SystemPromptPart, UserPromptPart

    sending.set(watched)  # the task is the call's own
    system = [SystemPromptPart(question.system)] if question.system is not None else []
    parameters = _parameters(model, question.action)
    response = await model_request(
        model,
        [ModelRequest(parts=[*system, UserPromptPart(question.prompt)])],
        model_settings=_settings(question.action, credential),
        model_request_parameters=parameters,
        instrument=False,
    )
    text = response.text or ""
    usage = response.usage
    counts = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_reasoning_tokens or usage.details.get("reasoning_tokens", 0),
    )
    return Answer(
        text=without_fence(text) if parameters.output_mode == "prompted" else text,
        finish_reason=response.finish_reason,
        is_measured=not usage.unmeasured_requests and any(counts[:2]) and all(map(_is_credible, counts)),
        input_tokens=counts[0],
        output_tokens=counts[1],
        cached_tokens=counts[2],
        cache_write_tokens=counts[3],
        reasoning_tokens=counts[4],
    )


def _is_credible(count: object) -> bool:
    """Whether what a provider reported can be a count of tokens; it may send anything."""
    return isinstance(count, int) and 0 <= count <= MAX_TOKENS


def _settings(action: LlmAction, credential: Credential) -> ModelSettings:
    from pydantic_ai.models.openai import OpenAIChatModelSettings

    settings = OpenAIChatModelSettings()
    if action.max_tokens is not None:
        settings["max_tokens"] = action.max_tokens
    if action.temperature is not None:
        settings["temperature"] = action.temperature
    if action.seed is not None and credential.kind is not ProviderKind.ANTHROPIC:  # which knows none
        settings["seed"] = action.seed
    if credential.is_openais_own:
        settings["openai_service_tier"] = "default"  # the one that the bound of usd was reckoned for
    return settings


def _parameters(model: Model[Any], action: LlmAction) -> ModelRequestParameters:
    """Ask for the schema in the provider's own way, in the instructions where it has none."""
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.output import OutputObjectDefinition

    if action.output_schema is None:
        return ModelRequestParameters()
    schema = OutputObjectDefinition(json_schema=copy.deepcopy(dict(action.output_schema)))
    is_native = model.profile.get("supports_json_schema_output", False)
    return ModelRequestParameters(output_mode="native" if is_native else "prompted", output_object=schema)
