"""Check schemas: whether the output_schema of each model call is a JSON Schema (2020-12) that stands on its own.

Owns that judgement; what an answer is held against is the executor's. jsonschema is loaded only where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentflow.domain.fault import Fault
from agentflow.domain.plan_document import WrittenSchema
from agentflow.domain.wording import shorten

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef")


def check_schemas(written: Sequence[WrittenSchema]) -> tuple[Fault, ...]:
    """Return every fault of the schemas of a plan."""
    return tuple(fault for each in written for fault in _check(each))


def _check(written: WrittenSchema) -> Iterator[Fault]:
    from jsonschema import Draft202012Validator

    schema = written.schema
    if not isinstance(schema, Mapping):
        return
    if schema.get("$schema", DIALECT) != DIALECT:
        problem = f"$schema of output_schema must be {DIALECT}, or be left out"
        yield Fault("bad_schema", problem, (*written.path, "$schema"), written.step)
        return
    # The formats tell of patterns that are no regular expressions.
    judge = Draft202012Validator(Draft202012Validator.META_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
    errors = list(judge.iter_errors(schema))
    for error in errors:
        place = ".".join(str(part) for part in error.absolute_path)
        where = f" at {shorten(place)}" if place else ""
        yield Fault(
            "bad_schema",
            f"output_schema is no JSON Schema{where}: {shorten(error.message, 120)}",
            (*written.path, *error.absolute_path),
            written.step,
        )
    if errors:
        return
    for reference in dict.fromkeys(_loose_references(schema)):
        yield Fault(
            "bad_schema",
            f"output_schema refers to {shorten(reference)!r}, which is not in it: nothing outside of it is loaded",
            written.path,
            written.step,
        )


def _loose_references(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the references that lead nowhere within ``schema``."""
    from referencing import Registry
    from referencing.exceptions import NoSuchAnchor, PointerToNowhere, Unresolvable
    from referencing.jsonschema import DRAFT202012

    root = DRAFT202012.create_resource(schema)
    registry: Registry[Any] = Registry().with_resource("", root)
    work: list[tuple[Any, Any]] = [(root, registry.resolver_with_root(root))]
    while work:
        resource, resolver = work.pop()
        if isinstance(resource.contents, Mapping):
            for name in _REFERENCES:
                reference = resource.contents.get(name)
                if isinstance(reference, str):
                    try:
                        resolver.lookup(reference)
                    except (NoSuchAnchor, PointerToNowhere, Unresolvable):
                        yield reference
        work.extend((inner, resolver.in_subresource(inner)) for inner in resource.subresources())
