"""`agentflow up` and `down`: everything is there when they say so, and nothing is left, however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentflow.embedded.ports import free_port
from tests.factories import wait_for
from tests.stacks import CommandLine, read_until
from tests.workers import REPOSITORY

SLEEPER = """
agentflow: 1
name: sleeper
steps:
  - id: sleep
    subprocess: {command: [sleep, "%s"]}
"""
LASTING = """
agentflow: 1
name: lasting
steps:
  - id: last
    subprocess: {command: "echo > %(folder)s/began; while [ ! -e %(folder)s/end ]; do sleep 0.1; done", shell: true}
"""
# On the path of every Python of the stack: its API ends once the step has begun, and so before it was ready.
ENDS_THE_API = """
import os, pathlib, sys, time
if "agentflow.api.supervised" in sys.orig_argv:
    while not pathlib.Path(%r).exists():
        time.sleep(0.05)
    os._exit(3)
"""


def _plan(folder: Path, seconds: str) -> str:
    path = folder / "sleeper.yaml"
    path.write_text(SLEEPER % seconds, encoding="utf-8")
    return str(path)


def _submit_and_await_running(cli: CommandLine, seconds: str) -> str:
    run_id = cli.answer("run", "--detach", _plan(cli.cwd, seconds))["id"]
    wait_for(lambda: cli.answer("show", run_id)["steps"][0]["state"] == "running", 60)
    return str(run_id)


def test_a_detached_stack_runs_plans_until_it_is_taken_down(cli: CommandLine) -> None:
    up = cli.answer("up", "--detach", "--concurrency", "2")
    assert cli.answer("run", _plan(cli.cwd, "0"))["state"] == "completed"
    again = cli.answer("up", "--detach")
    assert (up["existing"], again["existing"], again["pid"]) == (False, True, up["pid"])
    assert f"process {up['pid']}" in cli.run("up").stdout, "a second up in the foreground joins too"
    running = cli.processes()
    assert len([words for words in running.values() if "agentflow.worker.supervised" in words]) == 3
    passwords = [(cli.home / name / "password").read_text().strip() for name in ("postgres", "valkey")]
    for pid, words in running.items():
        seen = words.encode() + Path(f"/proc/{pid}/environ").read_bytes()
        assert not any(password.encode() in seen for password in passwords)
    assert cli.answer("down")["pid"] == up["pid"]
    assert cli.processes() == {}
    assert cli.answer("down") == {"pid": None, "processes": 0}
    assert cli.run("runs").returncode == 6


def test_two_stacks_started_at_once_are_one(cli: CommandLine) -> None:
    with ThreadPoolExecutor(2) as both:
        ups = list(both.map(lambda _: cli.answer("up", "--detach"), range(2)))
    assert ups[0]["pid"] == ups[1]["pid"]
    assert sorted(up["existing"] for up in ups) == [False, True]


def test_what_the_stack_that_is_up_lacks_is_refused_and_what_it_has_is_not(cli: CommandLine) -> None:
    with ThreadPoolExecutor(2) as both:  # one starts while the other asks for more
        first = both.submit(cli.answer, "up", "--detach", "--concurrency", "2")
        wait_for(lambda: any("agentflow.stack.background" in words for words in cli.processes().values()))
        refused = both.submit(cli.run, "up", "--detach", "--api").result()
    pid = first.result()["pid"]
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert f"as process {pid}, and it serves no API" in refused.stderr
    assert "agentflow down" in refused.stderr
    more = cli.run("up", "--flower", "--concurrency", "3", "--json")
    assert (more.returncode, json.loads(more.stdout)["error"]["code"]) == (2, "precondition_failed")
    assert json.loads(more.stdout)["error"]["details"]["lacking"] == [
        "has no Flower",
        "performs 2 steps at once, not 3",
    ]
    for arguments in ((), ("--concurrency", "2")):
        assert cli.answer("up", "--detach", *arguments)["existing"] is True


def test_an_interrupted_stack_lets_the_running_step_finish(cli: CommandLine) -> None:
    stack = cli.start("up")
    read_until(stack, "worker is ready")
    (cli.cwd / "lasting.yaml").write_text(LASTING % {"folder": cli.cwd}, encoding="utf-8")
    run_id = cli.answer("run", "--detach", "lasting.yaml")["id"]
    wait_for((cli.cwd / "began").exists)
    stack.send_signal(signal.SIGINT)
    (cli.cwd / "end").touch()
    words, _ = stack.communicate(timeout=30)
    assert stack.returncode == 0, words
    assert cli.processes() == {}
    cli.answer("up", "--detach")
    run = cli.answer("wait", run_id)
    assert (run["state"], len(run["steps"][0]["attempts"])) == ("completed", 1)


@pytest.mark.parametrize("arguments", [("up",), ("up", "--detach")], ids=["foreground", "detached"])
def test_a_killed_stack_leaves_nothing_running(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    stack = cli.start(*arguments)
    read_until(stack, "worker is ready")
    _submit_and_await_running(cli, "60")
    keeper = json.loads((cli.home / "stack.json").read_text())["pid"]
    wait_for(lambda: any(words.startswith("sleep 60") for words in cli.processes().values()))
    os.kill(keeper, signal.SIGKILL)
    assert cli.wait_until_gone(10) < 10
    stack.communicate(timeout=10)
    assert cli.answer("up", "--detach")["existing"] is False, "the next start is not hindered by what was left"


def test_a_launcher_killed_before_the_stack_is_ready_leaves_nothing(cli: CommandLine) -> None:
    launcher = cli.start("up", "--detach")
    wait_for(lambda: any("agentflow.stack.background" in words for words in cli.processes().values()))
    launcher.kill()
    launcher.communicate(timeout=10)
    cli.wait_until_gone(20)


def _kill_server(cli: CommandLine, words: str) -> None:
    os.kill(min(pid for pid, line in cli.processes().items() if words in line), signal.SIGKILL)


def test_a_killed_server_is_started_again_and_runs_go_on(cli: CommandLine) -> None:
    stack = cli.start("up")
    read_until(stack, "worker is ready")
    before = json.loads((cli.home / "stack.json").read_text())
    for name, words in (("valkey", "valkey-server"), ("postgres", "/bin/postgres")):
        _kill_server(cli, words)
        assert f"The embedded {name} ended" in read_until(stack, f"{name} is up again")
        assert cli.answer("run", _plan(cli.cwd, "0"))["state"] == "completed"
    assert json.loads((cli.home / "stack.json").read_text()) == before
    stack.send_signal(signal.SIGTERM)
    stack.communicate(timeout=30)
    assert stack.returncode == 0
    assert "last stack" not in cli.run("runs").stderr, "it was asked to end"


def test_a_server_that_dies_again_and_again_ends_the_stack_which_is_told_later(cli: CommandLine) -> None:
    stack = cli.start("up")
    read_until(stack, "worker is ready")
    for _ in range(5):
        _kill_server(cli, "valkey-server")
        read_until(stack, "valkey is up again")
    _kill_server(cli, "valkey-server")
    words, _ = stack.communicate(timeout=30)
    assert stack.returncode == 6
    assert "valkey ended again after 5 restarts within 60 s" in words
    log = str(cli.home / "valkey" / "valkey.log")
    assert log in words
    assert cli.processes() == {}
    later = (cli.run("runs"), cli.run("doctor"))
    assert [done.returncode for done in later] == [6, 6]
    for said in (later[0].stderr, later[1].stdout):
        assert "because its valkey ended again after 5 restarts within 60 s; see" in said
        assert log in said


def test_a_killed_worker_is_started_again(cli: CommandLine) -> None:
    stack = cli.start("up")
    read_until(stack, "worker is ready")
    worker = next(pid for pid, words in cli.processes().items() if "agentflow.worker.supervised" in words)
    os.kill(worker, signal.SIGKILL)
    assert "killed by SIGKILL" in read_until(stack, "started again")
    read_until(stack, "ready again")
    assert cli.answer("run", _plan(cli.cwd, "0"))["state"] == "completed"
    stack.send_signal(signal.SIGTERM)
    stack.communicate(timeout=30)
    assert stack.returncode == 0


def test_a_stack_that_cannot_start_says_why_and_leaves_nothing(cli: CommandLine) -> None:
    no_directory = cli.cwd / "file"
    no_directory.touch()
    for arguments in (("up",), ("up", "--detach")):
        done = cli.run(*arguments, AGENTFLOW_CONTENT_DIR=str(no_directory))
        assert done.returncode == 2
        assert str(no_directory) in done.stderr
        assert cli.processes() == {}


def test_a_home_that_cannot_be_made_is_named(cli: CommandLine) -> None:
    for arguments in (("up",), ("up", "--detach"), ("demo",)):
        done = cli.run(*arguments, AGENTFLOW_HOME="/proc/no-home")  # not even root can make it
        assert (done.returncode, "/proc/no-home" in done.stderr) == (2, True)
        assert "Traceback" not in done.stderr


def test_a_home_that_takes_no_file_is_named(cli: CommandLine) -> None:
    (cli.home / "log").symlink_to("/proc/self")
    for arguments in (("up",), ("up", "--detach"), ("demo",)):
        done = cli.run(*arguments)
        assert (done.returncode, f"{cli.home}/log cannot be written" in done.stderr) == (2, True)
        assert "Traceback" not in done.stderr
    (cli.home / "log").unlink()
    (cli.home / "servers.lock").mkdir()
    done = cli.run("up", "--detach")
    assert (done.returncode, f"{cli.home}/servers.lock cannot be used: Is a directory" in done.stderr) == (2, True)


@pytest.mark.parametrize("seconds", [0.5, 1.5, 5.0])
def test_a_demo_interrupted_at_any_moment_leaves_nothing(cli: CommandLine, seconds: float) -> None:
    demo = cli.start("demo")
    with pytest.raises(subprocess.TimeoutExpired):
        demo.communicate(timeout=seconds)
    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode in (130, -signal.SIGINT)  # the latter before Python itself has started; shells show 130
    cli.wait_until_gone(5)


def test_a_worker_that_cannot_start_is_quoted(cli: CommandLine) -> None:
    # It stands before Celery on the worker's path: the worker works in the home.
    (cli.home / "celery.py").write_text("raise SystemExit('this Celery is broken')", encoding="utf-8")
    (cli.home / "log").mkdir()
    log = cli.home / "log" / "worker.log"
    log.write_text("what an earlier one said\n", encoding="utf-8")
    done = cli.run("up", "--detach")
    assert done.returncode == 2
    assert "The worker ended with exit code 1 before it was ready" in done.stderr
    assert "this Celery is broken" in done.stderr
    assert str(log) in done.stderr
    assert "an earlier one" not in done.stderr
    assert cli.processes() == {}
    assert f"because the worker ended with exit code 1 before it was ready; see {log}." in cli.run("runs").stderr


@pytest.mark.parametrize(
    ("verb", "who", "variable"), [("--api", "The API", "AGENTFLOW_API_PORT"), ("--flower", "Flower", "FLOWER_PORT")]
)
def test_a_port_that_is_taken_is_found_before_a_worker_starts(
    cli: CommandLine, verb: str, who: str, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli.run("up", "--detach", verb, **{variable: str(port)})
    assert done.returncode == 2
    assert f"{who} cannot listen at 127.0.0.1, port {port}: Address already in use." in done.stderr
    assert f"choose another one by {variable}." in done.stderr
    assert list((cli.home / "log").glob("worker*")) == []
    assert cli.processes() == {}


def test_a_start_that_fails_gives_back_the_steps_that_its_worker_took(cli: CommandLine) -> None:
    began = cli.cwd / "began"
    (cli.cwd / "lasting.yaml").write_text(LASTING % {"folder": cli.cwd}, encoding="utf-8")
    (cli.cwd / "path").mkdir()
    (cli.cwd / "path" / "sitecustomize.py").write_text(ENDS_THE_API % str(began), encoding="utf-8")
    path = os.pathsep.join([str(cli.cwd / "path"), str(REPOSITORY)])
    more = {"AGENTFLOW_DRAIN_SECONDS": "0", "AGENTFLOW_API_PORT": str(free_port()), "PYTHONPATH": path}
    stack = cli.start("up", "--api", **more)
    wait_for((cli.home / "stack.json").exists)
    cli.answer("run", "--detach", "lasting.yaml")
    words, _ = stack.communicate(timeout=60)
    assert began.exists()
    assert stack.returncode == 2
    assert "The API ended with exit code 3 before it was ready" in words
    assert "outcome=Released" in (cli.home / "log" / "worker.log").read_text(encoding="utf-8")
    assert cli.processes() == {}


def test_up_and_demo_refuse_where_other_servers_are_named(cli: CommandLine) -> None:
    for verb in ("up", "demo"):
        done = cli.run(verb, AGENTFLOW_DATABASE_URL="postgresql://a@b/c", AGENTFLOW_REDIS_URL="redis://b")
        assert done.returncode == 2
        assert "AGENTFLOW_DATABASE_URL" in done.stderr
    assert cli.processes() == {}
