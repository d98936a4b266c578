"""What requests may say: the bodies, each field as the plan language or the command line names it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Reason = Field(default=None, description="Why: it stands in the audit for ever.", examples=["the numbers are wrong"])


class Body(BaseModel):
    """A body; a field that nobody knows is refused, for it is a typing mistake."""

    model_config = ConfigDict(extra="forbid")


class Submission(Body):
    """A plan as a document, or the name of a stored one, with what a submit may say beside it."""

    plan: dict[str, JsonValue] | str = Field(
        description="A plan document, or NAME or NAME@VERSION of a stored plan.",
        examples=[
            {
                "agentflow": 1,
                "name": "hello",
                "steps": [{"id": "greet", "subprocess": {"command": ["echo", "{{ vars.greeting }}"]}}],
                "vars": {"greeting": {"default": "hello"}},
            }
        ],
    )
    files: dict[str, str] = Field(
        default_factory=dict, description="Texts of the files that the document names beside itself, by their paths."
    )
    vars: dict[str, JsonValue] = Field(default_factory=dict, description="Values of the plan's vars.")
    project: str | None = Field(default=None, description="The run's project; else the plan's, else the key's.")
    directive: str | None = None
    budget: dict[str, JsonValue] | None = Field(default=None, examples=[{"tokens": 5000, "usd": 0.5}])
    mode: str | None = Field(default=None, description="auto or strict.")
    plan_hash: str | None = Field(default=None, description="Take this plan only, by its fingerprint.")


class Fork(Body):
    """From where a run is done again, and with what."""

    from_step: str
    vars: dict[str, JsonValue] = Field(default_factory=dict)
    budget: dict[str, JsonValue] | None = None
    directive: str | None = None


class Pause(Body):
    """How a run is to rest."""

    now: bool = Field(default=False, description="Also end what runs now; it is given back and spends no retry.")
    why: str | None = Reason


class Retry(Body):
    """What is to be taken up again: all that failed, or one step."""

    step: str | None = None


class Decision(Body):
    """An answer to a gate."""

    step: str | None = Field(default=None, description="The gate, where several are open.")
    why: str | None = Reason
    form: dict[str, JsonValue] = Field(default_factory=dict, description="Values of the gate's form.")


class Rejection(Body):
    """A no to a gate."""

    step: str | None = None
    why: str = Field(examples=["the numbers are wrong"])


class Signal(Body):
    """A signal for a step that waits for its name."""

    name: str
    data: JsonValue = None


class Raise(Body):
    """What is added to the caps of a run."""

    steps: int | None = None
    tokens: int | None = None
    usd: float | str | None = None
    active_time: str | None = Field(default=None, examples=["10m"])


class Guidance(Body):
    """A word to the next call of a model."""

    text: str
    step: str | None = None
    why: str | None = Reason


class Overriding(Body):
    """How a step ends by a person's word: exactly one of skip, succeed and choose."""

    step: str
    why: str
    skip: bool = False
    succeed: bool = False
    result: JsonValue = None
    choose: str | None = None


class Why(Body):
    """Why something is done, in a line."""

    why: str = Field(examples=["it deletes the wrong files"])


class Push(Body):
    """A plan that is to be stored under its name."""

    plan: dict[str, JsonValue]
    files: dict[str, str] = Field(default_factory=dict)
    project: str | None = None


def given(body: BaseModel) -> dict[str, Any]:
    """The fields that were said."""
    return body.model_dump(exclude_unset=True)
