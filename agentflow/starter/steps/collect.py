"""Turn a log into a table: hour, severity, component, message. Usage: collect.py LOG"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

ENTRY = re.compile(r"(\d{4}-\d\d-\d\d \d\d):\d\d:\d\d,\d{3} (\w+) +(\S+) +(.*)")


def main(log: str) -> None:
    lines, entries = 0, []
    with Path(log).open(encoding="utf-8") as file:
        for line in file:
            lines += 1
            match = ENTRY.match(line)
            if match:  # other lines belong to the entry above them: a traceback, for instance
                entries.append(match.groups())
    if not entries:
        sys.exit(f"{log}: no line looks like '2026-11-20 14:03:12,481 ERROR payments ...'")
    with Path(os.environ["AGENTFLOW_ARTIFACTS"], "entries.tsv").open("w", encoding="utf-8") as table:
        for hour, severity, component, message in entries:
            table.write("\t".join((hour.replace(" ", "T"), severity, component, message)) + "\n")
    json.dump({"lines": lines, "entries": len(entries), "first": entries[0][0], "last": entries[-1][0]}, sys.stdout)


main(sys.argv[1])
