"""The client's reports: a run as Markdown, JSON or one HTML file, also of what is left of a run that was pruned."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING
from uuid import UUID

from jinja2 import Environment, StrictUndefined

from agentflow.client.connection import Connected
from agentflow.domain.error import RunPruned, UsageError
from agentflow.domain.ids import RunId
from agentflow.domain.report import Report
from agentflow.domain.report_cells import pieces
from agentflow.domain.report_markdown import markdown_of
from agentflow.domain.report_page import page_of
from agentflow.storage import reports, retention, views

if TYPE_CHECKING:
    from agentflow.client.run import Run

FORMATS = ("md", "json", "html")
_TEMPLATE = "report.html.jinja"


class Reports(Connected):
    """What tells of a run to those who were not there."""

    def read_report(self, run: Run | str | UUID, *, project: str | None = None, has_vars: bool = False) -> Report:
        """Read everything that is reported of a run; the values of its vars only with ``has_vars``.

        Of a run that was pruned what is left. Raises NotFound, AmbiguousId and UsageError.
        """
        with self._reading() as tx:
            try:
                run_id = views.find_run(tx, run if isinstance(run, str) else str(_id_of(run)), project)
                return reports.read_report(tx, run_id, has_vars=has_vars)
            except RunPruned as pruned:
                stone = retention.read_tombstone(tx, RunId(UUID(pruned.details["run"])))
                if stone is None:
                    raise
                return reports.report_of_pruned(stone)

    def report(
        self,
        run: Run | str | UUID,
        format: str = "md",  # noqa: A002 - the word that users know
        *,
        project: str | None = None,
        has_vars: bool = False,
    ) -> str:
        """Return the report of a run as ``md``, ``json`` or ``html``. Raises as ``read_report`` does."""
        return written(self.read_report(run, project=project, has_vars=has_vars), checked_format(format))


def checked_format(format: str) -> str:  # noqa: A002 - the word that users know
    """Return the name of a format. UsageError for any other."""
    if format not in FORMATS:
        raise UsageError(f"A report is written as {', '.join(FORMATS)}, not {format!r}.")
    return format


def written(report: Report, format: str) -> str:  # noqa: A002 - the word that users know
    """Write a report in one of the formats."""
    if format == "json":
        return json.dumps(report.as_json(), ensure_ascii=False, indent=2) + "\n"
    page = page_of(report)
    if format == "md":
        return markdown_of(page)
    source = resources.files("agentflow.client").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["pieces"] = pieces
    return environment.from_string(source).render(page=page)


def _id_of(run: Run | UUID) -> UUID:
    return run if isinstance(run, UUID) else run.uuid
