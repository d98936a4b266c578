"""Faults of plan documents: each is found, with its code, its place and words that help, and all come at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.fault import Fault
from agentflow.domain.plan import MAX_STEPS
from agentflow.domain.plan_check import check_available
from agentflow.domain.plan_document import read_plan

ALL_ACTIONS = ("subprocess", "noop", "llm", "http")
Steps = list[Any]


def document(*steps: Any, **top: Any) -> dict[str, Any]:
    return {"agentflow": 1, "name": "p", **top, "steps": list(steps)}


def faults_of(data: Any, actions: tuple[str, ...] = ALL_ACTIONS) -> tuple[Fault, ...]:
    reading = read_plan(data, available_actions=actions)
    assert (reading.plan is None) == bool(reading.faults)
    return reading.faults


def only_fault(data: Any, actions: tuple[str, ...] = ALL_ACTIONS) -> Fault:
    faults = faults_of(data, actions)
    assert len(faults) == 1, [fault.message for fault in faults]
    return faults[0]


def step(**fields: Any) -> dict[str, Any]:
    return {"id": "a", **({} if {"subprocess", "noop", "llm", "http"} & set(fields) else {"noop": {}}), **fields}


def command(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "subprocess": {"command": ["true"], **fields}}


TOP_FAULTS = [
    ({"agentflow": 2}, "bad_format", ("agentflow",), "write agentflow: 1"),
    ({"agentflow": "1"}, "wrong_type", ("agentflow",), "a whole number"),
    ({"name": "two words"}, "bad_id", ("name",), "'two words'"),
    ({"name": 5}, "wrong_type", ("name",), "in quotes"),
    ({"name": "p\n"}, "bad_id", ("name",), "name cannot be"),
    ({"project": "../x"}, "bad_id", ("project",), "project cannot be"),
    ({"project": None}, "wrong_type", ("project",), "no value"),
    ({"directive": "a b"}, "bad_id", ("directive",), "directive cannot be 'a b'"),
    ({"budget": {}}, "bad_budget", ("budget",), "write at least one of {steps: 50"),
    ({"budget": 5}, "wrong_type", ("budget",), "a mapping such as {steps: 50"),
    ({"budget": {"steps": 0}}, "bad_budget", ("budget", "steps"), "from 1 to"),
    ({"budget": {"steps": 1.5}}, "wrong_type", ("budget", "steps"), "a whole number"),
    ({"budget": {"tokens": -1}}, "bad_budget", ("budget", "tokens"), "from 1 to"),
    ({"budget": {"tokens": "5000"}}, "wrong_type", ("budget", "tokens"), "a whole number"),
    ({"budget": {"usd": 0}}, "bad_budget", ("budget", "usd"), "must be more than 0, not 0"),
    ({"budget": {"usd": -0.5}}, "bad_budget", ("budget", "usd"), "must be more than 0, not -0.5"),
    ({"budget": {"usd": 1e7}}, "bad_budget", ("budget", "usd"), "at most 1000000"),
    ({"budget": {"usd": "0.5"}}, "wrong_type", ("budget", "usd"), "a number"),
    ({"budget": {"active_time": 10}}, "bad_duration", ("budget", "active_time"), "write a unit"),
    ({"budget": {"active_time": "0s"}}, "bad_duration", ("budget", "active_time"), "longer than nothing"),
    ({"budget": {"token": 5}, "x": 1}, "unknown_field", ("budget", "token"), "did you mean 'tokens'?"),
    ({"rate_limit": "60/m"}, "unknown_field", ("rate_limit",), "write it on each, or in defaults"),
    ({"concurrency": {"key": "a", "limit": 1}}, "unknown_field", ("concurrency",), "write it on each, or in defaults"),
    ({"sekrets": []}, "unknown_field", ("sekrets",), "did you mean 'secrets'?"),
    ({"secrets": ["A", "A"]}, "duplicate_id", ("secrets", 1), "twice"),
    ({"secrets": ["A-B"]}, "bad_id", ("secrets", 0), "letters, digits and _"),
    ({"secrets": ["AGENTFLOW_AUDIT_KEY"]}, "bad_id", ("secrets", 0), "agentflow's own"),
    ({"secrets": ["agentflow_audit_key"]}, "bad_id", ("secrets", 0), "agentflow's own"),
    ({"secrets": "A"}, "wrong_type", ("secrets",), "write [A]"),
    ({"files": [1]}, "wrong_type", ("files", 0), "text"),
    ({"defaults": {"timeout": 60}}, "bad_duration", ("defaults", "timeout"), "write a unit, such as 60ms or 60s"),
    ({"defaults": {"rate_limit": "1"}}, "bad_limit", ("defaults", "rate_limit"), "write 1/s, 1/m or 1/h"),
    ({"defaults": {"concurrency": 4}}, "wrong_type", ("defaults", "concurrency"), "{key: db, limit: 4}"),
    ({"defaults": {"budget": {}}}, "not_available", ("defaults", "budget"), "not available"),
    ({"defaults": {"retries": 3}}, "unknown_field", ("defaults", "retries"), "did you mean 'retry'?"),
    ({"vars": []}, "wrong_type", ("vars",), "a mapping"),
    ({"vars": {"a-b": 1}}, "bad_id", ("vars", "a-b"), "no name of a var"),
    ({"vars": {"x": {"required": True, "default": 1}}}, "bad_var", ("vars", "x"), "one of the two"),
    ({"vars": {"x": {"one_of": []}}}, "bad_var", ("vars", "x", "one_of"), "empty"),
    ({"vars": {"x": {"one_of": [1, 2], "default": 3}}}, "bad_var", ("vars", "x", "default"), "1, 2"),
    ({"vars": {"x": {"one_of": [1, 2]}}}, "bad_var", ("vars", "x"), "required: true or a default"),
    ({"vars": {"x": {}}}, "bad_var", ("vars", "x"), "required: true or a default"),
    ({"vars": {"x": {"defualt": 1, "required": True}}}, "unknown_field", ("vars", "x", "defualt"), "'default'"),
    ({"vars": {"x": {"required": "yes"}}}, "wrong_type", ("vars", "x", "required"), "write true or false"),
    ({"vars": {"x": float("nan")}}, "wrong_type", ("vars", "x"), "plain data"),
    ({"vars": {"x": 10**5000}}, "wrong_type", ("vars", "x"), "plain data"),
    ({"agentflow": 10**5000}, "wrong_type", ("agentflow",), "beyond all bounds"),
    ({"defaults": {"timeout": 10**5000}}, "bad_duration", ("defaults", "timeout"), "no duration"),
    ({"vars": {"x": "a\0"}}, "bad_value", ("vars", "x"), "NUL"),
    ({"vars": {"x": "\ud800"}}, "bad_value", ("vars", "x"), "surrogate"),
    ({"vars": {"x": [{"\ud800": 1}]}}, "bad_value", ("vars", "x", 0), "surrogate"),
    ({"vars": {"x": [{"a\0": 1}]}}, "bad_value", ("vars", "x", 0), "NUL"),
]


@pytest.mark.parametrize(("top", "code", "path", "words"), TOP_FAULTS)
def test_a_fault_at_the_top_is_found(top: dict[str, Any], code: str, path: tuple[Any, ...], words: str) -> None:
    faults = [fault for fault in faults_of(document(step()) | top) if fault.path == path]
    assert [fault.code for fault in faults] == [code]
    assert words in faults[0].message
    assert faults[0].step is None


STEP_FAULTS = [
    ({"id": "a b"}, "bad_id", ("id",), "'a b' is no id"),
    ({"id": "1a"}, "bad_id", ("id",), "start with a letter"),
    ({"id": "a" * 65}, "bad_id", ("id",), "at most 64"),
    ({"id": "é"}, "bad_id", ("id",), "no id"),
    ({"id": ""}, "bad_value", ("id",), "empty"),
    ({"timout": "5m"}, "unknown_field", ("timout",), "did you mean 'timeout'?"),
    ({"command": ["x"]}, "unknown_field", ("command",), "inside subprocess"),
    ({"prompt": "x"}, "unknown_field", ("prompt",), "inside llm"),
    ({"url": "http://x"}, "unknown_field", ("url",), "inside http"),
    ({"rate_limit": 60}, "bad_limit", ("rate_limit",), "60 has no unit: write 60/s, 60/m or 60/h"),
    ({"rate_limit": "60"}, "bad_limit", ("rate_limit",), "60 has no unit: write 60/s, 60/m or 60/h"),
    ({"rate_limit": "60/"}, "bad_limit", ("rate_limit",), "60 has no unit"),
    ({"rate_limit": 1.5}, "bad_limit", ("rate_limit",), "1.5 has no unit"),
    ({"rate_limit": "60/min"}, "bad_limit", ("rate_limit",), "no unit 'min': did you mean 60/m?"),
    ({"rate_limit": "2/hours"}, "bad_limit", ("rate_limit",), "did you mean 2/h?"),
    ({"rate_limit": "2/x"}, "bad_limit", ("rate_limit",), "such as 60/m"),
    ({"rate_limit": "1.5/s"}, "bad_limit", ("rate_limit",), "take a longer unit, as 90/m for 1.5/s"),
    ({"rate_limit": "0/m"}, "bad_limit", ("rate_limit",), "from 1 to 1000000, not 0"),
    ({"rate_limit": "-1/m"}, "bad_limit", ("rate_limit",), "such as 60/m"),
    ({"rate_limit": "1000001/s"}, "bad_limit", ("rate_limit",), "from 1 to 1000000"),
    ({"rate_limit": "9" * 5000 + "/s"}, "bad_limit", ("rate_limit",), "from 1 to 1000000"),
    ({"rate_limit": "60/5m"}, "bad_limit", ("rate_limit",), "such as 60/m"),
    ({"rate_limit": True}, "wrong_type", ("rate_limit",), "a rate such as 60/m"),
    ({"rate_limit": {"key": "a"}}, "missing_field", ("rate_limit",), "no limit"),
    ({"rate_limit": {"limit": 60}}, "bad_limit", ("rate_limit", "limit"), "has no unit"),
    ({"rate_limit": {"limit": "6/m", "burst": 0}}, "bad_limit", ("rate_limit", "burst"), "from 1"),
    ({"rate_limit": {"limit": "6/m", "burst": 1.5}}, "wrong_type", ("rate_limit", "burst"), "a whole number"),
    ({"rate_limit": {"limit": "6/m", "key": "a b"}}, "bad_id", ("rate_limit", "key"), "key cannot be 'a b'"),
    ({"rate_limit": {"limit": "6/m", "key": "{{ run.id }}"}}, "bad_id", ("rate_limit", "key"), "it is no template"),
    ({"rate_limit": {"limit": "6/m", "bursts": 1}}, "unknown_field", ("rate_limit", "bursts"), "'burst'"),
    ({"concurrency": 4}, "wrong_type", ("concurrency",), "a mapping such as {key: db, limit: 4}"),
    ({"concurrency": {"key": "db"}}, "missing_field", ("concurrency",), "no limit"),
    ({"concurrency": {"limit": 4}}, "missing_field", ("concurrency",), "no key"),
    ({"concurrency": {"key": "", "limit": 4}}, "bad_value", ("concurrency", "key"), "empty"),
    ({"concurrency": {"key": "db\n", "limit": 4}}, "bad_id", ("concurrency", "key"), "key cannot be"),
    ({"concurrency": {"key": 5, "limit": 4}}, "wrong_type", ("concurrency", "key"), "in quotes"),
    ({"concurrency": {"key": "db", "limit": 0}}, "bad_limit", ("concurrency", "limit"), "from 1 to 10000"),
    ({"concurrency": {"key": "db", "limit": 2.5}}, "wrong_type", ("concurrency", "limit"), "a whole number"),
    ({"budget": {}}, "not_available", ("budget",), "not available"),
    ({"wave": 0}, "bad_value", ("wave",), "from 1 to 10000"),
    ({"timeout": 60}, "bad_duration", ("timeout",), "write a unit, such as 60ms or 60s"),
    ({"timeout": "60"}, "bad_duration", ("timeout",), "write a unit, such as 60ms or 60s"),
    ({"timeout": "-5s"}, "bad_duration", ("timeout",), "negative"),
    ({"timeout": -5}, "bad_duration", ("timeout",), "negative"),
    ({"timeout": "0s"}, "bad_duration", ("timeout",), "longer than nothing"),
    ({"timeout": "5 min"}, "bad_duration", ("timeout",), "such as 700ms"),
    ({"timeout": True}, "wrong_type", ("timeout",), "a duration"),
    ({"retry": 0}, "bad_retry", ("retry",), "from 1"),
    ({"retry": "3"}, "wrong_type", ("retry",), "a number of attempts"),
    ({"retry": True}, "wrong_type", ("retry",), "a number of attempts"),
    ({"retry": 2.5}, "wrong_type", ("retry",), "a whole number"),
    ({"retry": {"max_attempts": 0}}, "bad_retry", ("retry", "max_attempts"), "from 1"),
    ({"retry": {"jitter": 1.5}}, "bad_retry", ("retry", "jitter"), "from 0 to 1"),
    ({"retry": {"jitter": -0.1}}, "bad_retry", ("retry", "jitter"), "from 0 to 1"),
    ({"retry": {"factor": 0.5}}, "bad_retry", ("retry", "factor"), "from 1"),
    ({"retry": {"base": 5}}, "bad_duration", ("retry", "base"), "write a unit, such as 5ms or 5s"),
    ({"retry": {"max_delay": "1"}}, "bad_duration", ("retry", "max_delay"), "write a unit, such as 1ms or 1s"),
    ({"retry": {"backoff": "exponental"}}, "bad_value", ("retry", "backoff"), "did you mean 'exponential'?"),
    ({"retry": {"max_atempts": 3}}, "unknown_field", ("retry", "max_atempts"), "did you mean 'max_attempts'?"),
    ({"retry": {"on_exit_codes": [256]}}, "bad_value", ("retry", "on_exit_codes", 0), "from 0 to 255"),
    ({"retry": {"on_timeout": False}}, "bad_retry", ("retry",), "names no failure"),
    ({"retry": {"on_exit_codes": []}}, "bad_retry", ("retry",), "names no failure"),
    ({"on_lost": "hold", "retry": 3}, "hold_and_retry", ("retry",), "set max_attempts: 1"),
    ({"on_lost": "hold", "retry": {"on_timeout": True}}, "hold_and_retry", ("retry",), "exit codes"),
    ({"on_lost": "holds"}, "bad_value", ("on_lost",), "did you mean 'hold'?"),
    ({"on_failure": "go on"}, "bad_value", ("on_failure",), "stop, continue"),
    ({"outputs": "json"}, "bad_value", ("outputs",), "did you mean 'body_json'?"),
    ({"outputs": "all"}, "bad_value", ("outputs",), "none, stdout_json, body_json"),
    ({"outputs": "stdout_json"}, "bad_value", ("outputs",), "the stdout of a command"),
    ({"outputs": "body_json", "subprocess": {"command": ["x"]}}, "bad_value", ("outputs",), "the answer to an http"),
    ({"outputs": "body_json", "llm": {"model": "a:b", "prompt": "p"}}, "bad_value", ("outputs",), "output_schema"),
    ({"outputs": "stdout_json", "http": {"url": "http://x"}}, "bad_value", ("outputs",), "the stdout of a command"),
    ({"when": "success"}, "bad_value", ("when",), "did you mean 'succeeded'?"),
    ({"when": "vars.x =="}, "template_syntax", ("when",), "syntax error: it ends too early"),
    ({"when": "vars.x y"}, "template_syntax", ("when",), "syntax error: expected the end of the expression, got 'y'"),
    ({"when": "{{ vars.x"}, "template_syntax", ("when",), "syntax error"),
    ({"when": True}, "wrong_type", ("when",), "text"),
    ({"when": "secrets.TOKEN == 'x'"}, "secret_in_when", ("when",), "only while a step runs"),
    ({"when": "vars.absent"}, "unknown_var", ("when",), "vars.absent is not declared"),
    ({"when": "run.id != ''"}, "when_without_needs", ("when",), "would not be asked"),
    ({"when": "failed", "needs": []}, "when_without_needs", ("when",), "write needs"),
    ({"needs": "a"}, "wrong_type", ("needs",), "write [a]"),
    ({"needs": None}, "wrong_type", ("needs",), "no value"),
    ({"needs": ["zz"]}, "unknown_need", ("needs", 0), "unknown step 'zz'"),
    ({"needs": ["a"]}, "self_need", ("needs", 0), "needs itself"),
    ({"inputs": ["a"]}, "bad_value", ("inputs", 0), "STEP/ARTIFACT"),
    ({"inputs": ["zz/x"], "subprocess": {"command": ["x"]}}, "unknown_step", ("inputs", 0), "unknown step 'zz'"),
    ({"subprocess": "x"}, "wrong_type", ("subprocess",), "a mapping"),
    ({"subprocess": {}}, "missing_field", ("subprocess",), "no command"),
    ({"noop": {"x": 1}}, "unknown_field", ("noop", "x"), "unknown field"),
]


@pytest.mark.parametrize(("fields", "code", "path", "words"), STEP_FAULTS)
def test_a_fault_of_a_step_is_found(fields: dict[str, Any], code: str, path: tuple[Any, ...], words: str) -> None:
    fault = only_fault(document(step(**fields), secrets=["TOKEN"]))
    assert (fault.code, fault.path) == (code, ("steps", 0, *path))
    assert words in fault.message
    assert fault.step == fields.get("id", "a")


COMMAND_FAULTS = [
    ({"command": "grep -c x y"}, "command_needs_shell", ("command",), "write [grep, -c, x, y], or add shell: true"),
    ({"command": ["x"], "shell": True}, "shell_needs_text", ("command",), "remove shell: true"),
    ({"command": []}, "empty_command", ("command",), "empty"),
    ({"command": [""]}, "empty_command", ("command",), "empty"),
    ({"command": " ", "shell": True}, "empty_command", ("command",), "empty"),
    ({"command": ["x", None]}, "wrong_type", ("command", 1), "text, not nothing"),
    ({"command": ["x", True]}, "wrong_type", ("command", 1), "in quotes"),
    ({"command": ["x", ["y"]]}, "wrong_type", ("command", 1), "text, not a list"),
    ({"command": ["a\0b"]}, "bad_value", ("command", 0), "NUL"),
    ({"shell": "yes"}, "wrong_type", ("shell",), "write true or false"),
    ({"env": {"A": True}}, "wrong_type", ("env", "A"), "in quotes"),
    ({"env": {"A": None}}, "wrong_type", ("env", "A"), "text"),
    ({"env": {"A-B": "x"}}, "bad_value", ("env", "A-B"), "environment variable"),
    ({"env": {"AGENTFLOW_RUN_ID": "x"}}, "bad_value", ("env", "AGENTFLOW_RUN_ID"), "its own"),
    ({"env": ["A=1"]}, "wrong_type", ("env",), "a mapping"),
    ({"cwd": "/tmp"}, "bad_path", ("cwd",), "inside its folder"),
    ({"cwd": "a/../../b"}, "bad_path", ("cwd",), "inside its folder"),
    ({"cwd": ""}, "bad_value", ("cwd",), "empty"),
    ({"ok_exit_codes": []}, "bad_value", ("ok_exit_codes",), "no exit would be a success"),
    ({"ok_exit_codes": [0, 256]}, "bad_value", ("ok_exit_codes", 1), "from 0 to 255"),
    ({"ok_exit_codes": 0}, "wrong_type", ("ok_exit_codes",), "a list"),
    ({"stdin": 5}, "wrong_type", ("stdin",), "in quotes"),
    ({"timeout": "5m"}, "unknown_field", ("timeout",), "one level up"),
    ({"comand": []}, "unknown_field", ("comand",), "did you mean 'command'?"),
    ({"command": ["{{ vars.x"]}, "template_syntax", ("command", 0), "no end"),
    ({"stdin": "{% for x in y %}"}, "template_syntax", ("stdin",), "blocks"),
    ({"command": ["{{ log }}"]}, "unknown_name", ("command", 0), "unknown name 'log'"),
    ({"command": ["{{ vars.lgo }}"]}, "unknown_var", ("command", 0), "did you mean 'log'?"),
    ({"env": {"A": "{{ secrets.TOKE }}"}}, "unknown_secret", ("env", "A"), "did you mean 'TOKEN'?"),
    ({"stdin": "{{ steps.x.stdout }}"}, "unknown_step", ("stdin",), "unknown step 'x'"),
    ({"stdin": "{{ steps.a.stdout }}"}, "not_an_ancestor", ("stdin",), "its own step"),
    ({"stdin": "{{ steps.a.stdot }}"}, "unknown_attribute", ("stdin",), "did you mean 'stdout'?"),
    ({"stdin": "{{ run.number }}"}, "unknown_attribute", ("stdin",), "known: id"),
    ({"command": ["{{ vars['lo' + 'g'] }}"]}, "dynamic_reference", ("command", 0), "computed name"),
]


@pytest.mark.parametrize(("fields", "code", "path", "words"), COMMAND_FAULTS)
def test_a_fault_of_a_command_is_found(fields: dict[str, Any], code: str, path: tuple[Any, ...], words: str) -> None:
    fault = only_fault(document(command(**fields), vars={"log": 1}, secrets=["TOKEN"]))
    assert (fault.code, fault.path, fault.step) == (code, ("steps", 0, "subprocess", *path), "a")
    assert words in fault.message


LLM_FAULTS = [
    ({"model": "gpt"}, "bad_value", "name its provider"),
    ({"model": ":gpt"}, "bad_value", "name its provider"),
    ({"model": "openai:"}, "bad_value", "name its provider"),
    ({"model": "my provider:gpt"}, "bad_value", "name its provider"),
    ({"model": "openai:gpt\n"}, "bad_value", "name its provider"),
    ({"price": 0.15}, "wrong_type", "a mapping such as {input: 0.15, output: 0.60}, in USD per million tokens"),
    ({"price": {"input": 0.15}}, "missing_field", "price has no output"),
    ({"price": {"input": -1, "output": 1}}, "bad_value", "from 0 to 1000000"),
    ({"price": {"input": "0.15", "output": 1}}, "wrong_type", "a number"),
    ({"price": {"input": 1, "output": 1, "cached": 1}}, "unknown_field", "unknown field 'cached'"),
    ({"prompt": "{{ secrets.TOKEN }}"}, "secret_in_prompt", "a model must not read secrets"),
    ({"system": "{{ secrets.TOKEN }}"}, "secret_in_prompt", "system cannot read secrets.TOKEN"),
    ({"model": "{{ secrets.TOKEN }}"}, "secret_in_model", "recorded with each call"),
    ({"prompt": ""}, "bad_value", "empty"),
    ({"max_tokens": 0}, "bad_value", "from 1 to 1000000000000000"),
    ({"max_tokens": 10**15 + 1}, "bad_value", "from 1 to 1000000000000000"),
    ({"price": {"input": 1, "output": 1000001}}, "bad_value", "from 0 to 1000000"),
    ({"temperature": 2.5}, "bad_value", "from 0 to 2"),
    ({"seed": "1"}, "wrong_type", "a whole number"),
    ({"output_schema": []}, "wrong_type", "a mapping"),
    ({"keep_content": "no"}, "wrong_type", "true or false"),
    ({"promt": "x"}, "unknown_field", "did you mean 'prompt'?"),
]


@pytest.mark.parametrize(("fields", "code", "words"), LLM_FAULTS)
def test_a_fault_of_a_model_call_is_found(fields: dict[str, Any], code: str, words: str) -> None:
    fault = only_fault(document({"id": "a", "llm": {"model": "a:b", "prompt": "p", **fields}}, secrets=["TOKEN"]))
    assert (fault.code, fault.path[:3]) == (code, ("steps", 0, "llm"))
    assert words in fault.message


HTTP_FAULTS = [
    ({"url": "example.com"}, "bad_url", ("url",), "must start with http:// or https://"),
    ({"url": "ftp://example.com"}, "bad_url", ("url",), "not ftp:"),
    ({"url": "HTTP://example.com"}, "bad_url", ("url",), "not HTTP:"),
    ({"url": "file:///etc/passwd"}, "bad_url", ("url",), "not file:"),
    ({"url": "ftp://{{ vars.log }}"}, "bad_url", ("url",), "not ftp:"),
    ({"url": "http://"}, "bad_url", ("url",), "names no host"),
    ({"url": "http:///path"}, "bad_url", ("url",), "names no host"),
    ({"url": "http://me:pass@host/"}, "bad_url", ("url",), "a user or a password"),
    ({"url": "http://{{ secrets.TOKEN }}@host/"}, "bad_url", ("url",), "send it in headers"),
    ({"url": "http://host:port/"}, "bad_url", ("url",), "its port is malformed"),
    ({"url": "http://host:99999/"}, "bad_url", ("url",), "its port is malformed"),
    ({"url": "http://[::1/"}, "bad_url", ("url",), "its host or its port is malformed"),
    ({"url": "http://host/a b"}, "bad_url", ("url",), "write %20"),
    ({"url": "http://host/\r\nX: y"}, "bad_url", ("url",), "unprintable"),
    ({"url": "http://host/{{ vars.lgo }}"}, "unknown_var", ("url",), "did you mean 'log'?"),
    ({"url": "http://host/{{ vars.log"}, "template_syntax", ("url",), "no end"),
    ({"url": ""}, "bad_value", ("url",), "empty"),
    ({"url": 5}, "wrong_type", ("url",), "in quotes"),
    ({"method": "post"}, "bad_value", ("method",), "did you mean 'POST'?"),
    ({"method": "TRACE"}, "bad_value", ("method",), "GET, HEAD, POST, PUT, PATCH, DELETE"),
    ({"json": {}}, "json_needs_method", ("json",), "GET has none: write method: POST, PUT or PATCH"),
    ({"json": {}, "method": "HEAD"}, "json_needs_method", ("json",), "HEAD has none"),
    ({"json": None, "method": "POST"}, "wrong_type", ("json",), "no value"),
    ({"json": [1, {"a": float("nan")}], "method": "POST"}, "wrong_type", ("json", 1, "a"), "plain data"),
    ({"json": {"a": ["x\0"]}, "method": "POST"}, "bad_value", ("json", "a", 0), "NUL"),
    ({"json": {"a": ["{{ vars.lgo }}"]}, "method": "POST"}, "unknown_var", ("json", "a", 0), "did you mean 'log'?"),
    ({"json": {"{{ vars.log }}": 1}, "method": "POST"}, "bad_value", ("json", "{{ vars.log }}"), "only values can"),
    ({"headers": {"a b": "c"}}, "bad_header", ("headers", "a b"), "no name of a header"),
    ({"headers": {"": "c"}}, "bad_header", ("headers", ""), "no name of a header"),
    ({"headers": {"A": "x\r\nB: y"}}, "bad_header", ("headers", "A"), "holds a line break"),
    ({"headers": {"A": "{{ vars.log }}\nB: y"}}, "bad_header", ("headers", "A"), "holds a line break"),
    ({"headers": {"A": " x"}}, "bad_header", ("headers", "A"), "visible ASCII"),
    ({"headers": {"A": "é"}}, "bad_header", ("headers", "A"), "visible ASCII"),
    ({"headers": {"A": True}}, "wrong_type", ("headers", "A"), "in quotes"),
    ({"headers": {"Content-length": "5"}}, "bad_header", ("headers", "Content-length"), "set by agentflow"),
    ({"headers": {"X-A": "1", "x-a": "2"}}, "bad_header", ("headers", "x-a"), "stands twice"),
    ({"credential": "x", "headers": {"authorization": "y"}}, "bad_header", ("credential",), "Authorization"),
    ({"credential": "x", "headers": {"HOST": "y"}}, "bad_header", ("credential",), "leave the header Host out"),
    ({"headers": ["A: x"]}, "wrong_type", ("headers",), "a mapping"),
    ({"ok_status": []}, "bad_value", ("ok_status",), "no answer would be a success"),
    ({"ok_status": [99]}, "bad_value", ("ok_status", 0), "from 100 to 599"),
    ({"ok_status": [600]}, "bad_value", ("ok_status", 0), "from 100 to 599"),
    ({"ok_status": 200}, "wrong_type", ("ok_status",), "a list"),
    ({"body": "x"}, "unknown_field", ("body",), "unknown field 'body'"),
    ({"timeout": "5m"}, "unknown_field", ("timeout",), "one level up"),
]


@pytest.mark.parametrize(("fields", "code", "path", "words"), HTTP_FAULTS)
def test_a_fault_of_a_call_to_a_service_is_found(
    fields: dict[str, Any], code: str, path: tuple[Any, ...], words: str
) -> None:
    call = {"id": "a", "http": {"url": "http://host/", **fields}}
    fault = only_fault(document(call, vars={"log": 1}, secrets=["TOKEN"]))
    assert (fault.code, fault.path, fault.step) == (code, ("steps", 0, "http", *path), "a")
    assert words in fault.message


def test_a_password_in_a_url_is_not_repeated_in_the_message() -> None:
    assert "hunter2" not in only_fault(document({"id": "a", "http": {"url": "http://me:hunter2@host/"}})).message


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_a_document_that_is_no_mapping_is_one_fault(data: Any) -> None:
    assert only_fault(data).code == "wrong_type"


def test_missing_fields_are_all_named() -> None:
    assert [fault.message for fault in faults_of({})] == [
        "the plan has no agentflow: write one",
        "the plan has no name: write one",
        "the plan has no steps: write one",
    ]


def test_a_plan_without_steps_is_refused() -> None:
    assert only_fault(document()).code == "bad_value"


def test_a_plan_of_too_many_steps_is_refused() -> None:
    steps = [{"id": f"s{n}", "noop": {}} for n in range(MAX_STEPS + 1)]
    assert only_fault(document(*steps)).code == "too_many_steps"


def test_a_step_has_one_action() -> None:
    assert only_fault(document({"id": "a"})).code == "no_action"
    fault = only_fault(document({"id": "a", "noop": {}, "subprocess": {"command": ["x"]}}))
    assert (fault.code, "noop, subprocess" in fault.message) == ("several_actions", True)


def test_a_mistyped_action_is_one_fault_that_names_the_nearest() -> None:
    fault = only_fault(document({"id": "a", "subproces": {"command": ["x"]}}))
    assert (fault.code, "did you mean 'subprocess'?" in fault.message) == ("unknown_field", True)


def test_a_switch_may_be_called_a_decision_but_not_both() -> None:
    choice = {"on": "vars.way", "cases": {"left": ["b"]}}
    behind = {"id": "b", "needs": ["a"], "noop": {}}
    plan = document({"id": "a", "needs": [], "decision": choice}, behind) | {"vars": {"way": "left"}}
    assert read_plan(plan).faults == ()
    both = document({"id": "a", "needs": [], "decision": choice, "switch": choice}, behind) | {"vars": {"way": "left"}}
    assert {fault.code for fault in faults_of(both)} == {"several_actions"}


def test_an_action_without_an_executor_is_read_and_reported() -> None:
    ask = {"id": "a", "llm": {"model": "a:b", "prompt": "p", "seed": "x"}}
    assert [fault.code for fault in faults_of(document(ask), ("subprocess", "noop"))] == ["wrong_type", "not_available"]
    assert [fault.code for fault in read_plan(document(ask)).faults] == ["wrong_type"]


def test_a_stored_plan_can_be_checked_for_actions_again() -> None:
    plan = read_plan(document({"id": "a", "llm": {"model": "a:b", "prompt": "p"}}), available_actions=ALL_ACTIONS).plan
    assert plan is not None
    assert check_available(plan, ALL_ACTIONS) == ()
    (fault,) = check_available(plan, ["noop"])
    assert (fault.code, fault.path, fault.step) == ("not_available", ("steps", 0, "llm"), "a")


def test_an_id_that_stands_twice_is_reported_at_the_second() -> None:
    fault = only_fault(document({"id": "a", "noop": {}}, {"id": "a", "noop": {}}))
    assert (fault.code, fault.path) == ("duplicate_id", ("steps", 1, "id"))
    assert "step 1 has it too" in fault.message


def test_once_a_step_writes_needs_all_but_the_first_must() -> None:
    faults = faults_of(
        document(step(), {"id": "b", "noop": {}}, {"id": "c", "noop": {}, "needs": ["a"]}, {"id": "d", "noop": {}})
    )
    assert [(fault.code, fault.path) for fault in faults] == [
        ("missing_needs", ("steps", 1)),
        ("missing_needs", ("steps", 3)),
    ]
    assert "needs: [] waits for none" in faults[0].message


def test_an_unknown_need_names_the_nearest_step() -> None:
    fault = only_fault(document({"id": "collect", "noop": {}}, step(needs=["colect"])))
    assert (fault.code, "did you mean 'collect'?" in fault.message) == ("unknown_need", True)


def test_a_need_that_stands_twice_is_a_fault() -> None:
    assert only_fault(document({"id": "b", "noop": {}}, step(needs=["b", "b"]))).path == ("steps", 1, "needs", 1)


def test_cycles_are_named_in_order() -> None:
    faults = faults_of(
        document(
            {"id": "a", "noop": {}, "needs": ["c"]},
            {"id": "b", "noop": {}, "needs": ["a"]},
            {"id": "c", "noop": {}, "needs": ["b"]},
            {"id": "x", "noop": {}, "needs": ["y"]},
            {"id": "y", "noop": {}, "needs": ["x"]},
        )
    )
    assert [(fault.code, fault.step) for fault in faults] == [("cycle", "a"), ("cycle", "x")]
    assert "a needs c, c needs b, b needs a" in faults[0].message


def test_an_unknown_step_and_a_step_that_does_not_come_before_are_told_apart() -> None:
    reader = {
        "id": "c",
        "needs": ["a"],
        "subprocess": {"command": ["x"], "stdin": "{{ steps.b.stdout }}{{ steps.z.stdout }}"},
    }
    faults = faults_of(document(command(), {"id": "b", "needs": [], "subprocess": {"command": ["x"]}}, reader))
    assert {fault.code for fault in faults} == {"not_an_ancestor", "unknown_step"}
    assert any("add it to the needs of this step" in fault.message for fault in faults)


def test_inputs_come_from_steps_before_and_only_commands_have_them() -> None:
    one, other = (
        {**command(), "needs": []},
        {"id": "b", "needs": [], "subprocess": {"command": ["x"]}, "inputs": ["a/x"]},
    )
    assert only_fault(document(one, other)).code == "not_an_ancestor"
    for action in ({"noop": {}}, {"llm": {"model": "a:b", "prompt": "p"}}, {"http": {"url": "http://x"}}):
        fault = only_fault(document(command(), {"id": "b", **action, "inputs": ["a/x"]}))
        assert "only a subprocess or python step" in fault.message


def test_inputs_come_from_commands() -> None:
    reader = {"id": "b", "subprocess": {"command": ["x"]}, "inputs": ["a/x"]}
    assert "'a' is a step of noop" in only_fault(document(step(), reader)).message
    for action in ({"llm": {"model": "a:b", "prompt": "p"}}, {"http": {"url": "http://x"}}):
        assert "write {{ steps.a.text_path }}" in only_fault(document({"id": "a", **action}, reader)).message


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_inputs_stay_inside_the_work_directory(path: str) -> None:
    for written in (f"a/{path}", {"step": "a", "artifact": "x", "as": path}, {"step": "a", "artifact": path}):
        second = {"id": "b", "subprocess": {"command": ["x"]}, "inputs": [written]}
        assert only_fault(document(command(), second)).code == "bad_path"


@pytest.mark.parametrize("attribute", ["stdout", "result", "stdout_path", "exit_code", "state"])
def test_step_output_is_refused_in_a_shell_command(attribute: str) -> None:
    second = {"id": "b", "subprocess": {"command": f"echo {{{{ steps.a.{attribute} }}}}", "shell": True}}
    fault = only_fault(document(command(), second))
    assert (fault.code, "env or stdin" in fault.message) == ("step_output_in_shell", True)


ASK = {"id": "ask", "llm": {"model": "a:b", "prompt": "p", "output_schema": {"type": "object"}}}


@pytest.mark.parametrize("attribute", ["text", "result", "result.word"])
@pytest.mark.parametrize("field", ["command", "env", "cwd"])
def test_a_models_text_is_refused_in_what_makes_a_command(attribute: str, field: str) -> None:
    text = f"{{{{ steps.ask.{attribute} }}}}"
    fields: dict[str, Any] = {"command": {"command": ["x", text]}, "env": {"env": {"A": text}}, "cwd": {"cwd": text}}
    fault = only_fault(document(ASK, command(**fields[field])))
    assert (fault.code, "stdin or as a file (text_path)" in fault.message) == ("llm_output_in_command", True)


@pytest.mark.parametrize("attribute", ["text", "result"])
def test_a_models_text_is_refused_where_it_would_choose_who_is_called(attribute: str) -> None:
    text = f"{{{{ steps.ask.{attribute} }}}}"
    for action in (
        {"http": {"url": f"http://host/{text}"}},
        {"http": {"url": "http://host/", "headers": {"X-Word": text}}},
        {"llm": {"model": f"a:{text}", "prompt": "p"}},
    ):
        fault = only_fault(document(ASK, {"id": "b", **action}))
        assert (fault.code, "a model must not choose who is called" in fault.message) == (
            "llm_output_in_address",
            True,
        )


@pytest.mark.parametrize(
    "reader",
    [
        {"run": {"plan": "other", "vars": {"x": ["{{ steps.get.%s }}"]}}},
        {"llm": {"model": "a:{{ steps.get.%s }}", "prompt": "p"}},
        {"foreach": "steps.get.%s", "run": {"plan": "other", "vars": {"x": "{{ item }}"}}},
    ],
)
def test_of_a_services_answer_only_the_declared_result_comes_into_rows(reader: dict[str, Any]) -> None:
    get = {"id": "get", "http": {"url": "http://host/"}, "outputs": "body_json"}

    def read(attribute: str) -> dict[str, Any]:
        step: dict[str, Any] = json.loads(json.dumps(reader).replace("%s", attribute))
        return document(get, {"id": "b", **step})

    fault = only_fault(read("text"))
    assert (fault.code, "outputs: body_json" in fault.message) == ("answer_in_row", True)
    assert read_plan(read("result"), available_actions=("http", "llm")).faults == ()


def test_a_models_text_is_refused_in_a_shell_command() -> None:
    shell = {"id": "b", "subprocess": {"command": "echo {{ steps.ask.text_path }}", "shell": True}}
    assert only_fault(document(ASK, shell)).code == "step_output_in_shell"


@pytest.mark.parametrize(
    ("first", "attribute", "words"),
    [
        (step(), "stdout", "a step of noop has only .state"),
        (command(), "text", "a step of subprocess has only .stdout, .stdout_path"),
        ({"id": "a", "llm": {"model": "a:b", "prompt": "p"}}, "stdout", "a step of llm has only .text, .text_path"),
        ({"id": "a", "llm": {"model": "a:b", "prompt": "p"}}, "exit_code", "a step of llm has only"),
        ({"id": "a", "llm": {"model": "a:b", "prompt": "p"}}, "artifacts.x.path", "a step of llm has only"),
        ({"id": "a", "llm": {"model": "a:b", "prompt": "p"}}, "result", "it comes with output_schema"),
        ({"id": "a", "http": {"url": "http://x"}}, "stdout_path", "a step of http has only .text, .text_path"),
        ({"id": "a", "http": {"url": "http://x"}}, "result", "it comes with outputs: body_json"),
    ],
)
def test_a_step_has_only_what_its_action_leaves(first: Any, attribute: str, words: str) -> None:
    second = {"id": "b", "subprocess": {"command": ["x"], "stdin": f"{{{{ steps.a.{attribute} }}}}"}}
    fault = only_fault(document(first, second))
    assert (fault.code, words in fault.message) == ("unknown_attribute", True)


def test_an_action_that_cannot_be_read_is_not_said_to_lack_a_result() -> None:
    second = {"id": "b", "subprocess": {"command": ["x"], "stdin": "{{ steps.a.result }}"}}
    for broken in (
        {"llm": {"model": "a:b", "prompt": "p", "output_schema": 5}},
        {"http": {"url": "x"}},
        {"http": {"url": "http://x"}, "outputs": "body"},
    ):
        assert only_fault(document({"id": "a", **broken}, second)).step == "a"


def test_a_reference_to_the_wrong_step_is_not_judged_further() -> None:
    reader = {"id": "b", "needs": [], "subprocess": {"command": "echo {{ steps.a.text }}", "shell": True}}
    assert only_fault(document({**step(), "needs": []}, reader)).code == "not_an_ancestor"


def test_a_broken_section_does_not_make_its_names_unknown() -> None:
    data = document(command(command=["{{ vars.x }}", "{{ secrets.Y }}"]), vars=[], secrets=5)
    assert [fault.path for fault in faults_of(data)] == [("vars",), ("secrets",)]


def test_a_step_with_a_bad_id_can_still_be_needed() -> None:
    data = document({"id": "a b", "noop": {}}, {"id": "c", "needs": ["a b"], "noop": {}})
    assert only_fault(data).code == "bad_id"


def test_what_is_no_step_at_all_is_one_fault() -> None:
    assert only_fault(document(step(), "text")).path == ("steps", 1)


def test_keys_that_are_no_text_are_refused() -> None:
    assert [fault.code for fault in faults_of(document(step()) | {1: 2})] == ["wrong_type"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "agentflow",
                    "name",
                    "steps",
                    "vars",
                    "secrets",
                    "defaults",
                    "files",
                    "id",
                    "subprocess",
                    "noop",
                    "llm",
                    "command",
                    "env",
                    "needs",
                    "when",
                    "retry",
                    "timeout",
                    "inputs",
                    "required",
                    "default",
                    "one_of",
                    "model",
                    "prompt",
                    "on_lost",
                    "max_attempts",
                    "http",
                    "url",
                    "json",
                    "headers",
                    "budget",
                    "price",
                    "rate_limit",
                    "concurrency",
                    "limit",
                    "key",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(JUNK)
def test_any_data_gives_a_plan_or_faults_and_never_an_error(data: Any) -> None:
    faults_of(data)


@given(JUNK)
def test_any_step_gives_a_plan_or_faults_that_lead_into_the_document(data: Any) -> None:
    for fault in faults_of(document(step(), data, {"id": "c", "subprocess": data})):
        value: Any = document(step(), data, {"id": "c", "subprocess": data})
        for part in fault.path:
            value = value[part]


@pytest.mark.parametrize("field", ["timeout", "retry", "rate_limit", "concurrency", "on_lost"])
@pytest.mark.parametrize(
    "step",
    [
        {"wait": {"event": "go"}},
        {"approval": {}},
        {"switch": {"on": "1", "cases": {"1": []}}},
        {"run": {"plan": "other"}},
        {"foreach": [1], "steps": [{"id": "b", "noop": {}}]},
        {"foreach": [1], "wait": {"for": "1s"}},
    ],
    ids=lambda step: "-".join(step),
)
def test_what_is_about_performing_is_a_fault_where_no_worker_performs(step: dict[str, Any], field: str) -> None:
    value = {
        "timeout": "1s",
        "retry": 2,
        "rate_limit": "1/s",
        "concurrency": {"key": "k", "limit": 1},
        "on_lost": "hold",
    }
    fault = only_fault(document({"id": "a", **step, field: value[field]}))
    assert (fault.code, fault.path) == ("bad_value", ("steps", 0, field))


def test_defaults_and_items_that_a_worker_performs_may_say_how() -> None:
    one = document({"id": "a", "foreach": [1], "noop": {}, "timeout": "1s", "retry": 2, "rate_limit": "1/s"})
    assert read_plan(one).faults == ()
    waits = document({"id": "a", "wait": {"for": "1s"}}) | {"defaults": {"timeout": "1s", "retry": 2}}
    assert read_plan(waits).faults == ()
