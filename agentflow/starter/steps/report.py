"""Write report.md from the facts on standard input and a table of errors by hour. Usage: report.py HOURS"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def bars(path: str) -> list[str]:
    with Path(path).open(encoding="utf-8") as file:
        hours = [(hour, int(count)) for hour, count in (line.split("\t") for line in file)]
    widest = max(count for _, count in hours) or 1
    return [f"{hour[-2:]}:00  {'#' * round(40 * count / widest):<40}  {count}" for hour, count in hours if count]


def report(facts: dict[str, Any], chart: list[str]) -> str:
    collected, worst = facts["collected"], facts["worst"]
    day, hour = worst["hour"].split("T")
    others = collected["entries"] - facts["errors"] - facts["warnings"]
    lines = [
        f"# {facts['log']}: the worst hour began at {hour}:00",
        "",
        f"{collected['lines']} lines, {collected['entries']} entries on {day}: {facts['errors']} errors, "
        f"{facts['warnings']} warnings, {others} others.",
        "",
        f"{worst['errors']} of the {facts['errors']} errors fall into the hour from {hour}:00. "
        f"On call: {facts['on_call']}.",
        "",
        "| times | component | message |",
        "|---:|---|---|",
        *(f"| {kind['times']} | {kind['component']} | {kind['message']} |" for kind in worst["top"]),
        "",
        "Errors by hour:",
        "",
        *(f"    {bar}" for bar in chart),
        "",
    ]
    return "\n".join(lines)


text = report(json.load(sys.stdin), bars(sys.argv[1]))
Path(os.environ["AGENTFLOW_ARTIFACTS"], "report.md").write_text(text, encoding="utf-8")
