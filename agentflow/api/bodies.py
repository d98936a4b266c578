"""What requests may say: the bodies, each field as the plan language or the command line names it."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    SkipValidation,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from agentflow.api.written_schedule import with_what_it_says
from agentflow.client.documents import MOST_FILES

Reason = Field(default=None, description="Why: it stands in the audit for ever.", examples=["the numbers are wrong"])


def _is_document_or_name(given: object) -> object:
    if not isinstance(given, dict | str):
        raise PydanticCustomError("plan_type", "takes a document or a name")
    return given


def _are_few(given: object) -> object:
    if isinstance(given, dict) and len(given) > MOST_FILES:
        raise PydanticCustomError("too_many_files", f"takes at most {MOST_FILES} files")
    return given


Json = SkipValidation[JsonValue]
"""A value that was read from JSON, and so is some: looking at each part of it again would take longer than reading."""
Object = dict[str, Json]
Files = Annotated[dict[str, str], BeforeValidator(_are_few)]
Plan = Annotated[Object | str, BeforeValidator(_is_document_or_name)]


class Body(BaseModel):
    """A body. A field that nobody knows is refused, for it is a typing mistake, and so is a value of another type.

    "false" would be true to who takes any text for yes.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


class Submission(Body):
    """A plan as a document, or the name of a stored one, with what a submit may say beside it."""

    plan: Plan = Field(
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
    files: Files = Field(
        default_factory=dict, description="Texts of the files that the document names beside itself, by their paths."
    )
    vars: Object = Field(default_factory=dict, description="Values of the plan's vars.")
    project: str | None = Field(default=None, description="The run's project; else the plan's, else the key's.")
    directive: str | None = None
    budget: Object | None = Field(default=None, examples=[{"tokens": 5000, "usd": 0.5}])
    mode: str | None = Field(default=None, description="auto or strict.")
    plan_hash: str | None = Field(default=None, description="Take this plan only, by its fingerprint.")


class Trial(Submission):
    """A submission that is only examined."""


class Fork(Body):
    """From where a run is done again, and with what."""

    from_step: str
    vars: Object = Field(default_factory=dict, description="Over those of the run.")
    plan: Plan | None = Field(
        default=None, description="An edited plan: what changed in it, and what follows, runs again."
    )
    files: Files = Field(default_factory=dict, description="Texts of files that the edited plan names.")
    budget: Object | None = None
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
    form: Object = Field(default_factory=dict, description="Values of the gate's form.")


class Rejection(Body):
    """A no to a gate."""

    step: str | None = None
    why: str = Field(examples=["the numbers are wrong"])


class Signal(Body):
    """A signal for a step that waits for its name."""

    name: str
    data: Json = None


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
    result: Json = None
    choose: str | None = None


class Modification(Body):
    """What is changed of a run, or of a step of it that has not run; amounts are added to its budget."""

    why: str
    step: str | None = None
    steps: int | None = None
    tokens: int | None = None
    usd: float | str | None = None
    active_time: str | None = Field(default=None, examples=["10m"])
    timeout: str | None = Field(default=None, examples=["10m"])
    priority: int | None = Field(default=None, description="0 to 9; the higher goes first.")


class Many(Body):
    """Which runs a verb means: by what they have in common, or all that it can be done to."""

    state: str | None = Field(default=None, description="All that are shown in this state.")
    name: str | None = Field(default=None, description="All of plans of this name.")
    project: str | None = Field(default=None, description="All of this project.")
    older_than: str | None = Field(default=None, description="All that were submitted so long ago.", examples=["2h"])
    all: bool = Field(default=False, description="Every run that this can be done to; instead of a filter.")
    dry_run: bool = Field(default=False, description="Only list the runs that it would be done to.")
    limit: int = Field(default=100, ge=1, le=1000, description="How many at most, the newest first.")


class ManyPaused(Many):
    """Which runs are to rest, and how."""

    now: bool = Field(default=False, description="Also end what runs now; it is given back and spends no retry.")
    why: str | None = Reason


class Why(Body):
    """Why something is done, in a line."""

    why: str = Field(examples=["it deletes the wrong files"])


class Push(Body):
    """A plan that is to be stored under its name."""

    plan: Object
    files: Files = Field(default_factory=dict)
    project: str | None = None


class Schedule(Body):
    """When a stored plan runs by itself: exactly one of cron, every and at."""

    plan: str = Field(description="NAME or NAME@VERSION of a stored plan.", examples=["triage@2"])
    cron: str | None = Field(default=None, description="Five fields, or @daily.", examples=["0 6 * * 1-5"])
    every: str | None = Field(default=None, examples=["15m"])
    at: str | None = Field(default=None, description="Once.", examples=["2026-12-01T06:00"])
    start: str | None = Field(default=None, description="Where every begins; else now.")
    time_zone: str = "UTC"
    jitter: str = "0s"
    overlap: str = Field(default="skip", description="skip, queue, cancel-previous or allow.")
    queue_depth: int = 1
    catch_up: str = "10m"
    vars: Object = Field(default_factory=dict)
    budget: Object | None = None
    directive: str | None = None
    project: str | None = None
    is_enabled: bool = True

    @model_validator(mode="wrap")
    @classmethod
    def _tell_all(cls, given: object, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return read(given)
        except ValidationError as error:
            raise with_what_it_says(error, given) from None


class NamedSchedule(Schedule):
    """A schedule with its name."""

    name: str
    dry_run: bool = Field(default=False, description="Examine it, tell its due times, write nothing.")


class Backfill(Body):
    """From when to when the due times of the past are fired that have no run."""

    since: str = Field(description="The first due time, local to the schedule's zone.", examples=["2026-11-01T00:00"])
    until: str | None = Field(default=None, description="The last one; now if not given.")
    dry_run: bool = False


class Replay(Body):
    """Which dead letters are taken up again: one step of a run, or all of a filter."""

    run: str | None = None
    step: str | None = None
    all: bool = Field(default=False, description="Every dead letter, or those of project and name.")
    project: str | None = None
    name: str | None = None
    dry_run: bool = False


class Pruning(Body):
    """Which ended runs go."""

    older_than: str = Field(description="How long ago they ended at least; 2d or more.", examples=["30d"])
    limit: int | None = Field(default=100, ge=1, le=1000, description="At most so many, the oldest first.")
    dry_run: bool = False


class NewKey(Body):
    """A key that is to be made."""

    name: str
    role: str = Field(description="viewer, operator or admin.", examples=["operator"])
    project: str | None = None
    expires: str | None = Field(default=None, description="After how long it opens nothing.", examples=["90d"])


def given(body: BaseModel) -> dict[str, Any]:
    """The fields that were said."""
    return body.model_dump(exclude_unset=True)
