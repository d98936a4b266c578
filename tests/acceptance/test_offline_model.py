"""Steps with the offline model, by real workers: a plan that uses its words, what it says without one, and the demo."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentflow import AgentFlow, Plan
from agentflow.client import Run
from agentflow.domain.reason import sentence_of
from agentflow.settings import Settings
from tests.offline_models import needs_offline_model, offline_model
from tests.stacks import CommandLine
from tests.workers import REPOSITORY, WorkerProcess, is_alive

EXAMPLE = REPOSITORY / "examples" / "summarise.yaml"
StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def model(request: pytest.FixtureRequest) -> dict[str, str]:
    """What of the environment tells where the model is, if it must be told."""
    file = offline_model(request.config)
    return {} if file is None else {"AGENTFLOW_OFFLINE_MODEL": str(file)}


def _read(run: Run, name: str, step: str) -> str:
    return run.read_artifact(name, step).decode()


class TestWithTheModel:
    pytestmark = needs_offline_model

    def test_the_example_puts_a_count_into_words_and_reads_them_in_the_next_command(
        self, settings: Settings, start_worker: StartWorker, model: dict[str, str]
    ) -> None:
        worker = start_worker(**model)
        with AgentFlow(settings) as flow:
            run = flow.submit(EXAMPLE).wait(150)

            assert run.state == "completed"
            urgency, _, words = _read(run, "stdout", "note").partition("\n")
            assert urgency in ("urgent: true", "urgent: false")
            assert words.strip()
            assert run.steps["classify"].result is None, "what a model said stands in no row"
            calls = [attempt.call for step in run.steps.values() for attempt in step.attempts if attempt.call]
            assert len(calls) == run.usage.calls == 2
            assert all(0 < call.input_tokens < 200 and 0 < call.output_tokens <= 150 for call in calls)
            assert run.usage.tokens == sum(call.input_tokens + call.output_tokens for call in calls) <= 3000
            assert (run.usage.estimated_calls, run.usage.unpriced_calls, run.usage.usd) == (0, 0, 0)
            assert run.artifacts == (), "nobody chose to keep what was said"

        processes = worker.processes()
        worker.stop()
        assert [pid for pid in processes if is_alive(pid)] == []

    def test_a_cap_of_tokens_stops_it_before_it_is_called_and_a_raise_lets_it_through(
        self, settings: Settings, start_worker: StartWorker, model: dict[str, str]
    ) -> None:
        start_worker(**model)
        with AgentFlow(settings) as flow:
            run = flow.submit(_short_plan(tokens=100)).wait(30)
            assert (run.state, run.usage.calls, run.usage.tokens) == ("exhausted", 0, 0)

            run.raise_budget(tokens=1000)
            run.resume()

            assert run.wait(150).state == "completed"
            assert 0 < run.usage.tokens <= 1100

    def test_the_demo_ends_with_its_words(self, cli: CommandLine, model: dict[str, str]) -> None:
        done = cli.run("demo", seconds=150, **model)

        assert done.returncode == 0, done.stderr
        _, _, told = done.stdout.partition("A small model on this machine sums it up; it is often wrong.\n\n")
        words, _, rest = told.partition("\n\n  (")
        assert words.strip()
        assert 0 < int(rest.partition(" tokens)")[0]) < 1000
        assert "none is left" in rest


def test_the_example_has_no_fault() -> None:
    assert Plan.load(EXAMPLE).plan.name == "summarise"


def test_without_the_model_the_step_fails_at_once_and_says_why(settings: Settings, start_worker: StartWorker) -> None:
    start_worker(AGENTFLOW_OFFLINE_MODEL="/nowhere/model.gguf")
    with AgentFlow(settings) as flow:
        run = flow.submit(_short_plan(tokens=1000)).wait(30)

        assert run.state == "failed"
        say = run.steps["say"]
        assert say.reason is not None
        assert "is not installed" in sentence_of(say.reason)
        assert (len(say.attempts), run.usage.tokens) == (1, 0)


def _short_plan(tokens: int) -> Plan:
    plan = Plan("short", budget={"tokens": tokens})
    plan.llm("say", model="offline:smollm2", prompt="Say yes.", max_tokens=100, temperature=0, seed=1)
    return plan
