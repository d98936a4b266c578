"""Find the hour with the most errors, and what failed in it. Usage: worst_hour.py TABLE PAUSE_SECONDS"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path


def main(table: str, pause_seconds: float) -> None:
    time.sleep(pause_seconds)
    with Path(table).open(encoding="utf-8") as file:
        entries = [line.rstrip("\n").split("\t") for line in file]
    hours = {hour: 0 for hour, *_ in entries}
    failures = [(hour, component, message) for hour, severity, component, message in entries if severity == "ERROR"]
    for hour, _, _ in failures:
        hours[hour] += 1
    worst = max(sorted(hours), key=lambda hour: hours[hour])
    kinds = Counter((part, re.sub(r"\d+", "N", text)) for hour, part, text in failures if hour == worst)
    with Path(os.environ["AGENTFLOW_ARTIFACTS"], "hours.tsv").open("w", encoding="utf-8") as file:
        file.writelines(f"{hour}\t{count}\n" for hour, count in sorted(hours.items()))
    top = [{"component": part, "message": text, "times": times} for (part, text), times in kinds.most_common(3)]
    json.dump({"hour": worst, "errors": hours[worst], "top": top}, sys.stdout)


main(sys.argv[1], float(sys.argv[2]))
