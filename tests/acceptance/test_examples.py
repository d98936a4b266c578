"""Every plan in examples/ ends as its own first lines promise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow import AgentFlow
from agentflow.settings import Settings
from tests.workers import REPOSITORY, WorkerProcess, environment_of

EXAMPLES = REPOSITORY / "examples"
ENDS = (
    ("release.yaml", {}, "completed", {"announce": "succeeded", "cleanup": "succeeded"}),
    ("release.yaml", {"broken": "true"}, "partial", {"tests": "failed", "package": "skipped", "cleanup": "succeeded"}),
    ("mirrors.yaml", {}, "partial", {"asia": "failed", "choose": "succeeded"}),
    ("pages.yaml", {}, "partial", {"count[1].read[2]": "failed", "count[2].add": "succeeded", "report": "succeeded"}),
    ("release-all.yaml", {}, "completed", {"roll[1]": "succeeded", "report": "succeeded"}),
    ("roll-region.yaml", {"region": "eu", "version": "1.4"}, "completed", {"deploy": "succeeded"}),
)


def test_every_plan_is_tried() -> None:
    needing_a_model = {"summarise.yaml"}  # test_offline_model.py tries it

    needing_a_word = {"rollout.yaml"}

    tried = {name for name, *_ in ENDS} | needing_a_model | needing_a_word
    assert {path.name for path in EXAMPLES.glob("*.yaml")} == tried


@pytest.mark.parametrize(
    ("name", "given", "state", "steps"),
    ENDS,
    ids=["release", "broken-release", "mirrors", "pages", "release-all", "roll-region"],
)
def test_an_example_ends_as_it_says(
    settings: Settings, worker: WorkerProcess, name: str, given: dict[str, str], state: str, steps: dict[str, str]
) -> None:
    with AgentFlow(settings) as flow:
        run = flow.submit(EXAMPLES / name, given).wait(30)
        assert {key: run.steps[key].state.value for key in steps} == steps
        assert run.state == state
    assert state in (EXAMPLES / name).read_text(encoding="utf-8").partition("agentflow: 1")[0]


def test_the_release_leaves_its_archive_and_the_best_mirror_is_chosen(
    settings: Settings, worker: WorkerProcess
) -> None:
    with AgentFlow(settings) as flow:
        release, mirrors = (flow.submit(EXAMPLES / name) for name in ("release.yaml", "mirrors.yaml"))
        assert [file.name for file in release.wait(30).artifacts] == ["app-1.4.0.tar"]
        assert mirrors.wait(30).read_artifact("stdout", "choose") == b"europe\n"


def test_the_rollout_waits_for_a_word_and_tells_how_it_stands(
    settings: Settings, start_worker: Callable[..., WorkerProcess]
) -> None:
    start_worker(AGENTFLOW_PYTHON_CALLS="statistics:*")
    with AgentFlow(settings) as flow:
        run = flow.submit(EXAMPLES / "rollout.yaml").wait(30)
        assert (run.state, run.steps["latency"].result) == ("waiting", 12)
        run.signal("verified", {"by": "ann", "traffic": 20})
        run.wait(30)

        assert run.state == "completed"
        assert run.read_artifact("stdout", "widen") == b"1.4.0 to 20 %\n"
        assert json.loads(run.read_artifact("notice.json"))["steps"] == {"running": 1, "succeeded": 5}


def test_the_python_example_prints_its_result(settings: Settings, worker: WorkerProcess, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "from_python.py")],
        cwd=tmp_path,
        env=environment_of(settings, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == ["completed", "9007187585"]
