"""Loading plans from files: the place of every fault, both syntaxes, and the files beside the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.action import SubprocessAction
from agentflow.domain.error import NotFound, PlanRejected, UsageError
from agentflow.domain.fault import Fault
from agentflow.engine.load_plan import MAX_DOCUMENT_BYTES, examine_plan, load_data, load_plan

ALL_ACTIONS = ("subprocess", "noop", "llm", "http")

BROKEN = """\
agentflow: 1
name: two words
files: [absent.py, ../outside]
vars:
  log: a
  region: {required: true, one_of: []}
budget: {usd: 0}
defaults:
  timeout: 60
extra: 1
steps:
  - id: collect
    subprocess: {command: grep x y}
    timout: 5m
  - id: collect
    needs: [nowhere]
    noop: {}
  - id: a
    needs: [b]
    subprocess:
      command: []
      shell: yes
    retry:
      max_attempts: 0
      jitter: 2
  - id: b
    needs: [a]
    noop: {}
    rate_limit: 60
  - id: shell
    needs: [collect]
    subprocess:
      command: |
        echo {{ vars.lgo }}
        echo {{ steps.collect.stdout }}
      shell: true
  - id: reader
    needs: []
    when: success
    subprocess:
      command: [cat]
      stdin: "{{ steps.collect.stdout }}"
      stdin: again
  - id: lonely
    noop: {}
  - id: unfinished
    needs: []
"""

EXPECTED = [
    (2, "bad_id", None),
    (3, "bad_file", None),
    (3, "bad_file", None),
    (6, "bad_var", None),
    (7, "bad_budget", None),
    (9, "bad_duration", None),
    (10, "unknown_field", None),
    (13, "command_needs_shell", "collect"),
    (14, "unknown_field", "collect"),
    (15, "duplicate_id", "collect"),
    (16, "unknown_need", "collect"),
    (19, "cycle", "a"),
    (21, "empty_command", "a"),
    (22, "wrong_type", "a"),
    (24, "bad_retry", "a"),
    (25, "bad_retry", "a"),
    (29, "bad_limit", "b"),
    (33, "step_output_in_shell", "shell"),
    (33, "unknown_var", "shell"),
    (39, "bad_value", "reader"),
    (42, "not_an_ancestor", "reader"),
    (43, "duplicate_key", None),
    (44, "missing_needs", "lonely"),
    (46, "no_action", "unfinished"),
]


def write(folder: Path, text: str, name: str = "plan.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def faults_of(folder: Path, text: str, name: str = "plan.yaml") -> tuple[Fault, ...]:
    loaded, faults = examine_plan(write(folder, text, name), available_actions=ALL_ACTIONS)
    assert (loaded is None) == bool(faults)
    return faults


def test_two_dozen_faults_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, BROKEN)
    found = sorted((fault.line or 0, fault.code, fault.step or "") for fault in faults)
    assert found == sorted((line, code, step or "") for line, code, step in EXPECTED)
    assert all(fault.file == str(tmp_path / "plan.yaml") and fault.column for fault in faults)
    assert [fault.line for fault in faults] == sorted(line for line, _, _ in EXPECTED)


def test_a_rejected_plan_says_every_fault_with_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, BROKEN)
    with pytest.raises(PlanRejected) as caught:
        load_plan(path, available_actions=ALL_ACTIONS)
    assert len(caught.value.faults) == len(EXPECTED)
    assert f"{path}:14: unknown field 'timout': did you mean 'timeout'?" in str(caught.value)


def test_faults_in_json_have_their_lines_too(tmp_path: Path) -> None:
    steps = '{"id": "a", "noop": {},\n     "timeout": 60},\n    {"id": "b"}'
    text = f'{{\n  "agentflow": 1,\n  "name": "p",\n\t"steps": [\n    {steps}\n  ]\n}}\n'
    faults = faults_of(tmp_path, text, "plan.json")
    assert [(fault.line, fault.column, fault.code) for fault in faults] == [(6, 6, "bad_duration"), (7, 5, "no_action")]


def document(**more: Any) -> dict[str, Any]:
    return {
        "agentflow": 1,
        "name": "p",
        "steps": [{"id": "a", "subprocess": {"command": ["x"], "stdin": "text"}}],
        **more,
    }


def test_one_document_in_yaml_and_json_has_one_fingerprint(tmp_path: Path) -> None:
    data = json.dumps(document(vars={"x": 1.5, "y": "\U0001f600 é"}))
    as_json = load_plan(write(tmp_path, data, "plan.json"))
    as_yaml = load_plan(write(tmp_path, json.dumps(json.loads(data), indent=2, ensure_ascii=False), "plan.yaml"))
    by_look = load_plan(write(tmp_path, data, "plan.txt"))
    assert as_json.plan == as_yaml.plan == by_look.plan
    assert as_json.plan.fingerprint == as_yaml.plan.fingerprint
    assert list(as_json.content.values()) == [b"text"]
    assert as_json.source == str(tmp_path / "plan.json")


def test_arguments_and_env_keep_the_spelling_of_numbers(tmp_path: Path) -> None:
    action = "{command: [x, 1.10, 010, on, 1:30, 0x1F], env: {V: 1.10}}"
    text = f"agentflow: 1\nname: p\nsteps:\n- id: a\n  subprocess: {action}\n"
    read = load_plan(write(tmp_path, text)).plan.steps[0].action
    assert isinstance(read, SubprocessAction)
    assert read.command == ("x", "1.10", "010", "on", "1:30", "0x1F")
    assert read.env == {"V": "1.10"}


def test_the_files_beside_the_plan_are_captured_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.log").write_text("one")
    path = write(tmp_path, json.dumps(document(files=["data/*.log"])))
    first = load_plan(path)
    assert [file.path for file in first.plan.files] == ["data/a.log"]
    assert first.files["data/a.log"].read_text() == "one"
    (tmp_path / "data" / "a.log").write_text("two")
    assert load_plan(path).plan.fingerprint != first.plan.fingerprint


def test_a_document_built_in_python_is_loaded_with_the_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("pass")
    loaded = load_data(document(files=["*.py"]), tmp_path, source="triage")
    assert (list(loaded.files), loaded.source) == (["a.py"], "triage")
    with pytest.raises(PlanRejected) as caught:
        load_data(document(files=["*.log"], extra=1), tmp_path)
    assert [fault.code for fault in caught.value.faults] == ["unknown_field", "bad_file"]


def test_a_model_call_is_refused_unless_an_executor_performs_it(tmp_path: Path) -> None:
    steps = [{"id": "a", "llm": {"model": "a:b", "prompt": "p"}}]
    path = write(tmp_path, json.dumps(document() | {"steps": steps}))
    with pytest.raises(PlanRejected, match="llm is not available"):
        load_plan(path, available_actions=("noop", "subprocess"))
    assert load_plan(path, available_actions=ALL_ACTIONS).plan.steps[0].action.type == "llm"


def test_a_missing_plan_is_told_with_the_folder_that_was_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound) as caught:
        load_plan("plan.yaml")
    assert "'plan.yaml'" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        load_plan(tmp_path)


def test_a_plan_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="larger than"):
        load_plan(write(tmp_path, "#" * (MAX_DOCUMENT_BYTES + 1)))


def test_text_that_is_not_utf_8_is_a_fault_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"agentflow: 1\nname: \xff\n")
    _, (fault,) = examine_plan(path)
    assert (fault.code, fault.line, fault.column) == ("bad_encoding", 2, 7)


def test_a_byte_order_mark_is_no_part_of_the_document(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(document()).encode())
    assert load_plan(path).plan.name == "p"
