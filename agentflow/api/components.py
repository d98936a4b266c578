"""The schemas of the description: the shipped ones of ``schemas/``, as components that refer to one another.

Owns their names and how a file becomes a component. The files say what ``--json`` prints; the API answers the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

_COMPONENTS = "#/components/schemas/"
_OTHER = re.compile(r'"\$ref": "urn:agentflow:schema:([a-z-]+):1#?')


def reference(schema: str) -> dict[str, str]:
    """Refer to a schema by the name of its file without the ending, or to a part, such as ``run/properties/id``."""
    file, slash, part = schema.partition("/")
    return {"$ref": f"{_COMPONENTS}{_name(file)}{slash}{part}"}


def used_in(document: Any) -> dict[str, Any]:
    """Return the shipped schemas that a document refers to, and those that they refer to, by the names there."""
    shipped = {_name(each): each for each in _shipped()}
    found: dict[str, Any] = {}
    wanted = set(_references(document)) & shipped.keys()
    while wanted:
        found |= {name: _component(shipped[name]) for name in wanted}
        wanted = {each for name in wanted for each in _references(found[name])} & shipped.keys() - found.keys()
    return {name: found[name] for name in sorted(found)}


@cache
def examples() -> dict[str, Any]:
    """Return true examples, by the name of a component or of a body, or by the status of a problem."""
    found: dict[str, Any] = json.loads(_file("api").joinpath("examples.json").read_text(encoding="utf-8"))
    return found


def _shipped() -> list[str]:
    return [each.name.removesuffix(".json") for each in _file("schemas").iterdir() if each.name.endswith(".json")]


def _component(schema: str) -> dict[str, Any]:
    """Read a file; what it refers to in itself or in another file is then found below the components."""
    text = _file("schemas").joinpath(f"{schema}.json").read_text(encoding="utf-8")
    text = text.replace('"$ref": "#/', f'"$ref": "{_COMPONENTS}{_name(schema)}/')
    text = _OTHER.sub(lambda found: f'"$ref": "{_COMPONENTS}{_name(found[1])}', text)
    component: dict[str, Any] = json.loads(text)
    del component["$schema"], component["$id"]
    return component


def _references(value: Any) -> Iterator[str]:
    """Find what is referred to: the names of components."""
    match value:
        case dict():
            for key, each in value.items():
                if key == "$ref" and isinstance(each, str):
                    yield each.removeprefix(_COMPONENTS).split("/")[0]
                else:
                    yield from _references(each)
        case list():
            for each in value:
                yield from _references(each)
        case _:
            return


def _file(folder: str) -> Any:
    return resources.files("agentflow").joinpath(folder)


def _name(schema: str) -> str:
    return "".join(word.capitalize() for word in schema.split("-"))
