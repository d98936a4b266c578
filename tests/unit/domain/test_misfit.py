"""Misfits: one sentence a field, in our words, and nothing of what was given."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from agentflow.domain.misfit import MOST_FAULTS, Misfit, fields_that_misfit, misfit_of


class _Asked(BaseModel, extra="forbid"):
    plan: dict[str, Any] | str
    limit: int = Field(default=1, ge=1, le=9)
    names: list[str] = []
    form: Literal["md", "html"] = "md"


def _told(given: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as failed:
        _Asked.model_validate(given)
    faults = fields_that_misfit(failed.value.errors(), given, _Asked.model_fields)
    assert "SENTINEL" not in str(Misfit(faults))
    return {fault.field: fault.message for fault in faults}


def test_every_field_is_told_once_without_the_types_that_were_tried() -> None:
    assert _told({"plan": 5, "limit": 10, "names": ["a", 7], "form": "SENTINEL", "planhash": "SENTINEL"}) == {
        "plan": "takes an object or a text",
        "limit": "must be at most 9",
        "names.1": "takes a text",
        "form": "takes 'md' or 'html'",
        "planhash": "there is no such field: did you mean 'plan'?",
    }


def test_what_is_missing_and_what_cannot_be_read_is_told() -> None:
    assert _told({"limit": "SENTINEL", "x": 1}) == {
        "plan": "is missing",
        "limit": "takes a whole number",
        "x": "there is no such field: known: form, limit, names, plan",
    }


def test_of_very_many_faults_the_first_are_told_and_all_are_counted() -> None:
    given = {f"x{number}": 1 for number in range(5 * MOST_FAULTS)}
    with pytest.raises(ValidationError) as failed:
        _Asked.model_validate(given)

    misfit = misfit_of(failed.value.errors(), given, _Asked.model_fields)

    assert len(misfit.faults) == MOST_FAULTS
    assert misfit.details == {"faults": 5 * MOST_FAULTS + 1}
    assert str(misfit).endswith(f"; and {5 * MOST_FAULTS - 4} more")
