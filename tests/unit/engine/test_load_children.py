"""The plans of child runs that are files: read with their parent, with their own files, and never in a circle."""

from __future__ import annotations

from pathlib import Path

from agentflow.domain.action import RunAction
from agentflow.engine.load_plan import examine_plan, load_plan

HEAD = "agentflow: 1\nname: {name}\nsteps:\n  - id: a\n"


def write(folder: Path, name: str, step: str, more: str = "") -> Path:
    """Write a plan of one step."""
    path = folder / f"{name}.yaml"
    path.write_text(HEAD.format(name=name) + f"    {step}\n" + more)
    return path


def test_a_child_in_a_file_comes_along_and_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("one")
    write(tmp_path, "leaf", "subprocess: {command: [cat, data.txt], stdin: hello}", "files: [data.txt]\n")
    write(tmp_path, "middle", "run: {plan: ./leaf.yaml}")
    top = write(tmp_path, "top", "run: {plan: middle.yaml}")

    first = load_plan(top)
    (tmp_path / "data.txt").write_text("two")
    second = load_plan(top)

    assert first.plan.fingerprint != second.plan.fingerprint
    action = first.plan.steps[0].action
    assert isinstance(action, RunAction)
    assert action.fingerprint in first.brought
    assert [what for what in first.brought.values() if isinstance(what, Path)] == [tmp_path.resolve() / "data.txt"]
    assert b"hello" in first.brought.values()
    assert len(first.brought) == 4


def test_a_plan_that_runs_itself_through_files_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, "one", "run: {plan: ./two.yaml}")
    two = write(tmp_path, "two", "run: {plan: ./one.yaml}")

    loaded, faults = examine_plan(tmp_path / "one.yaml")

    assert loaded is None
    [fault] = faults
    assert (fault.code, fault.file, fault.line) == ("contains_itself", str(two), 5)
    assert "one.yaml -> two.yaml -> one.yaml" in fault.message


def test_the_faults_of_parent_and_child_are_told_together_each_in_its_file(tmp_path: Path) -> None:
    child = write(tmp_path, "child", "noop: {}", "vars: {who: {required: true}, what: {}}\n")
    top = write(
        tmp_path, "top", "run: {plan: ./child.yaml}", "  - id: b\n    nope: {}\n  - {id: c, run: {plan: ./gone.yaml}}\n"
    )

    _, faults = examine_plan(top)

    assert {(fault.code, fault.file) for fault in faults} >= {
        ("unknown_field", str(top)),
        ("bad_file", str(top)),
        ("bad_var", str(child)),
    }


def test_what_a_child_needs_is_held_against_what_it_is_given(tmp_path: Path) -> None:
    write(tmp_path, "child", "noop: {}", "vars: {who: {required: true}}\n")
    top = write(tmp_path, "top", "run: {plan: ./child.yaml, vars: {whom: ana}}")

    _, faults = examine_plan(top)

    assert [(fault.code, fault.line) for fault in faults] == [("missing_var", 5), ("unknown_var", 5)]
