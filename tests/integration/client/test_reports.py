"""Reports of runs: what happened and who did it, in three formats, and never what was said or made."""

from __future__ import annotations

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from agentflow import AgentFlow, Run, errors
from agentflow.domain.ids import RunId
from agentflow.engine.load_plan import load_data
from agentflow.engine.prune import prune
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import document, noop_step, shell_step, work_off
from tests.integration.client.conftest import Finish, shell_plan
from tests.integration.engine.pruned import USED, ended_run
from tests.unit.cli.answers import ask, check, complain, read, say

SENTINEL = "SENTINEL"
RESULT = {"kind": "edit", "text": f"{SENTINEL}-result"}
DAY_SECONDS = 86_400.0


@pytest.fixture(autouse=True)
def _home(at_home: Settings) -> None:
    """The command line works on the test's installation."""


@pytest.fixture
def told(flow: AgentFlow, house: Runtime, tmp_path: Path) -> Run:
    """A run through every place that content passes, which a person steered; it is partial."""
    says = f"echo '{json.dumps(RESULT)}'; echo {SENTINEL}-err >&2; echo {SENTINEL}-file > $AGENTFLOW_ARTIFACTS/left.txt"
    steps = [
        shell_step("says", says, outputs="stdout_json"),
        shell_step("reads", "cat", stdin=f"{SENTINEL}-stdin {{{{ vars.word }}}}", needs=["says"]),
        {"id": "route", "needs": ["says"], "switch": {"on": "steps.says.result.kind", "cases": {"edit": ["change"]}}},
        noop_step("change", needs=["route"]),
        shell_step("lists", f"""echo '["{SENTINEL}-a", "{SENTINEL}-b"]'""", outputs="stdout_json", needs=["change"]),
        shell_step("each", 'echo "{{ item }}"', needs=["lists"], foreach="steps.lists.result"),
        shell_step("breaks", f"echo {SENTINEL}-out; exit 3", needs=["each"], on_failure="continue"),
        {"id": "gate", "needs": ["each"], "approval": {"allow_self": True, "form": {"remark": {"type": "string"}}}},
        noop_step("last", needs=["gate"]),
    ]
    data = document(steps, vars={"word": f"{SENTINEL}-var"})
    run = flow.submit(load_data(data, tmp_path, available_actions=known_actions()))
    work_off(house, RunId(run.uuid))
    flow.approve(run, "gate", why="looks right", form={"remark": f"{SENTINEL}-given"})
    run.pause(why="lunch")
    run.resume()
    work_off(house, RunId(run.uuid))
    return run.refresh()


def test_a_report_tells_what_happened_in_json(told: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "report", told.id)

    assert told.state == "partial"
    assert answer["summary"]["state"] == "partial"
    assert answer["counts"] == {"succeeded": 8, "failed": 1}
    steps = {step["id"]: step for step in answer["steps"]}
    text = json.dumps(RESULT, sort_keys=True, separators=(",", ":")).encode()
    assert steps["says"]["result"] == {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
    assert [each["exit_code"] for each in steps["breaks"]["attempts"]] == [3]
    assert steps["each[1]"]["item"] == 1
    assert answer["routes"] == [{"step": "route", "choice": "edit"}]
    assert answer["foreachs"] == [{"step": "each", "state": "succeeded", "items": 2, "states": {"succeeded": 2}}]
    assert answer["vars"] == {"remark": None, "word": None}
    assert [(each["action"], each["actor"]) for each in answer["interventions"]] == [
        ("decide", "tester@test"),
        ("pause", "tester@test"),
        ("resume", "tester@test"),
    ]
    [gate] = answer["gates"]
    assert (gate["step"], gate["state"], gate["needed"]) == ("gate", "approved", 1)
    assert [(each["actor"], each["why"], each["fields"]) for each in gate["decisions"]] == [
        ("tester@test", "looks right", ["remark"])
    ]
    actions = [each["action"] for each in answer["timeline"]["entries"]]
    assert (actions[0], actions[-1], answer["timeline"]["left_out"]) == ("submit", "finalize", {})
    [left] = [each for each in answer["artifacts"] if each["kind"] == "file"]
    assert (left["name"], left["sha256"]) == ("left.txt", hashlib.sha256(f"{SENTINEL}-file\n".encode()).hexdigest())
    assert answer["audit"]["events"] == len(list(told.events()))
    assert answer["audit"]["seal"]


@pytest.mark.parametrize("format_name", ["md", "json", "html"])
def test_a_report_holds_no_content(told: Run, format_name: str) -> None:
    written = told.report(format_name)

    assert "left.txt" in written
    assert "looks right" in written
    assert SENTINEL not in written


def test_the_values_of_vars_are_told_to_who_asks_for_them(told: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{SENTINEL}-given" in say(capsys, "report", told.id, "--vars")
    assert SENTINEL in ask(capsys, "report", told.id, "--vars")["vars"]["word"]


def test_a_report_in_markdown_has_its_sections(told: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = say(capsys, "report", told.id).splitlines()

    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert headings == [
        "Steps", "Foreachs", "Routes taken", "Gates", "Interventions", "Timeline", "Artifacts", "Audit"
    ]  # fmt: skip
    tables = [line.count(" | ") for line in lines if line.startswith("| `")]
    assert len(set(tables)) > 1
    assert any("exited with code 3" in line for line in lines)


class _Elements(HTMLParser):
    """Reads a page; fails where an element is not closed, and keeps what would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        targets = [value or "" for name, value in attrs if name in ("src", "href")]
        self.loads += [tag for target in targets if not target.startswith("#")] + [tag] * (tag in ("script", "link"))
        self.links += [target.removeprefix("#") for target in targets]
        self.names += [value or "" for name, value in attrs if name == "id"]
        if tag not in ("meta", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_in_html_is_one_file_in_which_nothing_acts(flow: AgentFlow, finish: Finish, tmp_path: Path) -> None:
    name = "<script>alert('1')<b>|`.txt"
    plan = shell_plan(f"""echo x > "$AGENTFLOW_ARTIFACTS/"'{name.replace("'", "")}'""")
    run = finish(flow.submit(plan))
    cancelled = flow.submit(shell_plan("true"))
    cancelled.pause(why="<img src=x onerror=alert(1)> | `x` **y**")

    pages = [run.report("html"), cancelled.report("html")]

    for page in pages:
        elements = _Elements()
        elements.feed(page)
        assert (elements.open, elements.loads) == ([], [])
        assert elements.links == elements.names != []
        assert "default-src 'none'" in page
    assert "&lt;script&gt;alert(1)&lt;b&gt;|`.txt" in pages[0].replace("<wbr>", "")
    assert "&lt;img src=x" in pages[1]
    assert "\\<img src=x onerror=alert(1)\\> \\| \\`x\\` \\*\\*y\\*\\*" in cancelled.report()
    assert "``s0/<script>alert(1)<b>\\|`.txt``" in run.report()


def test_the_output_file_says_the_format(told: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, begins in (("r.html", "<!doctype html>"), ("r.json", "{"), ("r.md", "# Run "), ("r", "# Run ")):
        assert say(capsys, "report", told.id, "--output", tmp_path / name) == ""
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)
    assert "cannot be written" in complain(capsys, "report", told.id, "-o", tmp_path / "no" / "r.md", code=2)
    assert "names no format" in complain(capsys, "report", told.id, "-o", tmp_path / "r.pdf", code=2)
    assert "md, json, html" in complain(capsys, "report", told.id, "--format", "pdf", code=2)
    assert ask(capsys, "report", told.id, "--format", "md", code=2)["error"]["code"] == "usage"


def test_a_run_is_reported_in_every_state(flow: AgentFlow, finish: Finish) -> None:
    ready = flow.submit(shell_plan("true"))
    failed = finish(flow.submit(shell_plan("exit 1")))
    cancelled = flow.submit(shell_plan("true"))
    cancelled.cancel()
    paused = flow.submit(shell_plan("true"))
    paused.pause()

    reports = [json.loads(run.report("json")) for run in (ready, failed, cancelled, paused)]

    for report in reports:
        check(report)
    assert [report["summary"]["state"] for report in reports] == ["running", "failed", "cancelled", "paused"]
    assert [report["audit"]["seal"] is None for report in reports] == [True, False, False, True]
    assert [report["summary"]["reason"] is None for report in reports] == [True, False, False, False]


def test_a_report_tells_what_each_model_used(house: Runtime, flow: AgentFlow) -> None:
    run_id = ended_run(house)

    [used] = check(json.loads(flow.report(run_id, "json")))["usage"]

    assert (used["calls"], used["input_tokens"], used["output_tokens"]) == (1, USED.input_tokens, USED.output_tokens)
    assert "## Model usage" in flow.report(run_id)


def test_of_a_pruned_run_it_reports_what_is_left(
    house: Runtime, flow: AgentFlow, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = ended_run(house)
    seal = json.loads(flow.report(run_id, "json"))["audit"]["seal"]
    prune(house.context, 7 * DAY_SECONDS, "tester@test", None)

    answer = ask(capsys, "report", run_id)
    page = say(capsys, "report", str(run_id)[:8])

    assert answer["pruned"]["by"] == "tester@test"
    assert answer["pruned"]["input_tokens"] == USED.input_tokens
    assert answer["audit"]["seal"] == seal
    assert answer["steps"] == []
    assert "this is what is left of it" in page
    with pytest.raises(errors.NotFound):
        flow.report("0" * 32)


def test_lineage_names_where_a_run_came_from(flow: AgentFlow, finish: Finish) -> None:
    origin = finish(flow.submit(shell_plan("true", "true")))
    fork = origin.fork("s1")

    assert json.loads(fork.report("json"))["lineage"]["forked_from"] == origin.id
    assert f"`{fork.id}`" in origin.report()


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(read("report"))
