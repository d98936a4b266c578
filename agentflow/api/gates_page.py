"""Pages of gates, those that were opened first before the others."""

from __future__ import annotations

from collections.abc import Iterable

from agentflow.api.caller import Json
from agentflow.api.paging import page
from agentflow.domain.gate_shape import GateView


def gates_page(views: Iterable[GateView], limit: int, cursor: str | None) -> Json:
    """Return up to ``limit`` gates after a cursor."""
    found, following = page(views, _place, limit, cursor)
    listed = [gate.as_json() for gate in found]
    return {"schema": "agentflow.gates/1", "gates": listed, "next_cursor": following}


def _place(view: GateView) -> tuple[str, str, str]:
    return view.gate.opened_at.isoformat(), str(view.run_id), view.step
