"""The supervisor stays small: it starts without agentflow's packages and without slow modules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from agentflow.executors import supervisor
from agentflow.executors.supervisor_link import spellings


def test_the_supervisor_loads_its_own_modules_and_nothing_slow() -> None:
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", supervisor.__file__, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    loaded = set(re.findall(r"\| +([\w.]+)$", finished.stderr, flags=re.MULTILINE))
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith("agentflow")}
    assert ours >= {"supervisor_loop", "running_command", "process_tree"}
    assert ours <= {path.stem for path in Path(supervisor.__file__).parent.glob("*.py")} - {"base", "command", "noop"}
    assert loaded.isdisjoint({"typing", "dataclasses", "inspect", "pathlib", "pydantic", "asyncio", "logging"})


def test_a_secret_is_masked_as_it_stands_in_json_too() -> None:
    assert spellings(('a"ü', "plain", "")) == ['a"ü', 'a\\"\\u00fc', 'a\\"ü', "plain"]
