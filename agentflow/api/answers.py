"""JSON answers that are large or often asked for, written by pydantic's serializer: it takes a third of json's time."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from pydantic_core import to_json


class QuickJson(JSONResponse):
    """A JSON answer; a number that JSON cannot say is null."""

    def render(self, content: Any) -> bytes:
        """Write the answer."""
        return to_json(content, inf_nan_mode="null")
