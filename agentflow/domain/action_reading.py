"""What comes out of reading an action: the action, its texts that are templates, and the content taken out of it.

Owns the places where such texts stand and the hashing of content. What the fields of an action are is for the
documents of the actions; which references a place allows is reference_check's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import JsonValue

from agentflow.domain.action import Action, ContentRef, RunAction
from agentflow.domain.document import Value
from agentflow.domain.template import has_expressions

STEP_FIELDS = (
    "id",
    "needs",
    "when",
    "outputs",
    "inputs",
    "timeout",
    "retry",
    "rate_limit",
    "concurrency",
    "on_failure",
    "on_lost",
    "foreach",
    "wave",
)
ON_THE_STEP = dict.fromkeys(STEP_FIELDS, "the step: write it beside the action, one level up")


class Place(StrEnum):
    """Where a text with templates stands; it decides what the text may refer to."""

    ARGV = "the command"
    SHELL = "a shell command"
    ENV = "env"
    CWD = "cwd"
    STDIN = "stdin"
    MODEL = "model"
    SYSTEM = "system"
    PROMPT = "prompt"
    URL = "url"
    HEADERS = "headers"
    JSON = "json"
    WHEN = "when"
    SWITCH = "switch.on"
    ITEMS = "foreach.items"
    UNTIL = "until"
    ARGS = "args"
    EMAIL = "email"
    MESSAGE = "message"
    VARS = "the vars of a child run"


EXPRESSIONS = (Place.WHEN, Place.SWITCH, Place.ITEMS)
"""Where a bare expression stands, without braces."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text that is rendered in the worker, and where it stands."""

    place: Place
    text: str
    value: Value


@dataclass(slots=True)
class ActionReading:
    """What came out of an action's document: the action (None after faults), its templates and its content.

    ``schemas`` are the JSON Schemas in it, with the value of each: judging them takes more than this floor has.
    """

    action: Action | None = None
    templates: list[Template] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)
    schemas: list[tuple[JsonValue, Value]] = field(default_factory=list)
    runs: list[tuple[RunAction, Value]] = field(default_factory=list)
    """Child runs, each with its value: the plans of files are yet to be read."""

    def template(self, place: Place, value: Value, text: str | None) -> str | None:
        """Note ``text`` as a template if it is one; returns it."""
        if text is not None and has_expressions(text):
            self.templates.append(Template(place, text, value))
        return text

    def take_content(self, place: Place, value: Value, text: str | None) -> ContentRef | None:
        """Take ``text`` out of the plan; returns its reference, or None when there is none."""
        return self.keep_content(text) if self.template(place, value, text) else None

    def keep_content(self, text: str | None) -> ContentRef:
        """Keep ``text``, whose templates are noted, as content; returns its reference."""
        data = (text or "").encode()
        digest = hashlib.sha256(data).hexdigest()
        self.content[digest] = data
        return ContentRef(sha256=digest, bytes=len(data))
