"""The plans of this folder, tested in process: `pip install "agentflow[testing]"`, then `pytest examples/tests`.

No workers, no broker, no models: commands are real, everything else is said here. See docs/howto/testing-plans.md.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from agentflow.testing import Rehearsal


@pytest.fixture
def agentflow_settings() -> Mapping[str, Any]:
    """What a worker of the rollout would have in AGENTFLOW_PYTHON_CALLS."""
    return {"python_calls": ("statistics:*",)}


def test_a_release_is_packed_and_announced(agentflow: Rehearsal) -> None:
    run = agentflow.run("../release.yaml")

    assert run.state == "completed"
    assert [file.name for file in run.artifacts] == ["app-1.4.0.tar"]
    assert run.read_artifact("stdout", "announce") == b"released 1.4.0\n"


def test_a_release_whose_tests_fail_is_not_packed_and_still_cleaned_up(agentflow: Rehearsal) -> None:
    agentflow.fail("tests", exit_code=1)

    run = agentflow.run("../release.yaml")

    assert run.state == "partial"
    assert run.steps["package"].state == "skipped"
    assert run.read_artifact("stdout", "cleanup") == b"packaging ended as skipped\n"


def test_a_mirror_that_comes_back_is_asked_again(agentflow: Rehearsal) -> None:
    agentflow.fail("europe", exit_code=75)  # of the default retry policy

    run = agentflow.run("../mirrors.yaml")

    assert [attempt.state for attempt in run.steps["europe"].attempts] == ["failed", "succeeded"]
    assert run.read_artifact("stdout", "choose") == b"europe\n"


def test_the_summary_is_made_of_what_the_model_said(agentflow: Rehearsal) -> None:
    model = agentflow.model("offline:smollm2").fails("unavailable")
    model.answers(
        lambda prompt: {"subject": "Backup", "urgent": True} if "subject line" in prompt else "3 files missing"
    )

    run = agentflow.run("../summarise.yaml")

    assert run.state == "completed"
    assert run.read_artifact("stdout", "note") == b"urgent: true\n3 files missing\n"
    assert "3 files were locked" in run.calls[0].prompt


def test_a_rollout_widens_on_a_word(agentflow: Rehearsal) -> None:
    agentflow.signal("verified", {"by": "ann", "traffic": 20})

    run = agentflow.run("../rollout.yaml")

    assert run.state == "completed"
    assert run.read_artifact("stdout", "widen") == b"1.4.0 to 20 %\n"


def test_a_rollout_that_nobody_verifies_in_an_hour_fails(agentflow: Rehearsal) -> None:
    agentflow.advance("1h")

    run = agentflow.run("../rollout.yaml")

    assert run.state == "failed"
    assert run.steps["verified"].reason["code"] == "no_signal"


def test_one_region_that_fails_ends_the_release_of_all(agentflow: Rehearsal) -> None:
    agentflow.fail("check", exit_code=1, times=None)

    run = agentflow.run("../release-all.yaml")

    assert run.state == "failed"
    assert run.children["roll[0]"][0].steps["deploy"].state == "succeeded"
