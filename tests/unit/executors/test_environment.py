"""A command sees what it needs of the worker's environment, and none of the worker's secrets."""

from __future__ import annotations

import os

from agentflow.executors.environment import allowed_environment


def test_what_programs_need_to_find_their_way_is_passed_on() -> None:
    given = {"PATH": "/bin", "HOME": "/home/w", "LANG": "C.UTF-8", "LC_TIME": "de_DE", "TZ": "UTC", "no_proxy": "a"}

    assert allowed_environment(given) == given


def test_secrets_and_what_bends_the_worker_are_kept_back() -> None:
    given = dict.fromkeys(("AGENTFLOW_DATABASE_URL", "OPENAI_API_KEY", "PYTHONPATH", "LD_PRELOAD"), "x")

    assert allowed_environment({"PATH": "/bin", **given}) == {"PATH": "/bin"}


def test_an_operator_can_name_more() -> None:
    assert allowed_environment({"PATH": "/bin", "JAVA_HOME": "/j"}, also=["JAVA_HOME"])["JAVA_HOME"] == "/j"


def test_there_is_always_a_path() -> None:
    assert allowed_environment({}) == {"PATH": os.defpath}
