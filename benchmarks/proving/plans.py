"""The shapes of work: small plans of every kind, drawn at random from a seed.

Owns what a plan looks like and which of its steps the proof looks at closer. Tags say that: ``hold`` steps must not
start twice, ``place`` steps share two places.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentflow import Plan, Retry
from agentflow.client.plan import Steps
from proving.ground import Ground

HOLD, PLACE, PLAIN = "hold", "place", "plain"
PLACES = 2
GREEDY = "greedy"
"""A model whose provider says that it used far more than it was asked for."""
THRIFTY_PROJECT = "thrift"
RUN_TOKENS = 260
SENTINEL = "UNSPOKEN-7f3a"
"""Stands in every prompt, and must be found nowhere but in the content store."""
SCHEDULED_PLAN = "ticking"
SIGNAL = "go"
"""What a wait waits for."""
WEIGHTS = {
    "chain": 5,
    "fan": 5,
    "diamonds": 4,
    "retries": 5,
    "conditions": 4,
    "broken": 2,
    "hold": 9,
    "rates": 4,
    "places": 4,
    "calls": 4,
    "capped": 4,
    "thrifty": 2,
    "long": 9,
    "service": 2,
    "items": 4,
    "routes": 4,
    "children": 3,
    "asked": 3,
}
"""The kinds of plans and how often each is drawn."""
_SOON = Retry(max_attempts=6, base="300ms", max_delay="2s", on_exit_codes=[75])


@dataclass(frozen=True)
class Shape:
    """A plan with the fields of its submit."""

    name: str
    plan: Plan
    budget: dict[str, Any] | None = None
    project: str | None = None


class Shapes:
    """Draws plans for one ground; the same seed draws the same plans."""

    def __init__(self, ground: Ground, rng: random.Random, kinds: Sequence[str] = ()) -> None:
        self._ground = ground
        self._rng = rng
        self._kinds = {name: WEIGHTS[name] for name in kinds or WEIGHTS}

    def draw(self) -> Shape:
        """Return the next plan."""
        [name] = self._rng.choices(list(self._kinds), list(self._kinds.values()))
        kind: Callable[[Plan], Shape] = getattr(self, f"_{name}")
        return kind(Plan(name, files=["work.sh"], folder=self._ground.plans))

    def poison(self) -> Shape:
        """Return a plan whose step kills the process that its supervisor belongs to, each time."""
        plan = Plan("poison")
        script = "kill -9 $(awk '{print $4}' /proc/$PPID/stat); sleep 30"
        plan.subprocess("poison", ["/bin/sh", "-c", script], on_failure="continue", needs=[])
        plan.noop("neighbour", needs=[])
        return Shape("poison", plan)

    def scheduled(self) -> Plan:
        """Return the plan that schedules run."""
        plan = Plan(SCHEDULED_PLAN, files=["work.sh"], folder=self._ground.plans)
        self._work(plan, "tick", [], 2)
        plan.noop("tock", needs=["tick"])
        return plan

    def _work(self, plan: Steps, key: str, needs: Sequence[str], fifths: int = 0, **fields: Any) -> str:
        """Add a command that keeps a journal; ``fifths`` of a second is how long it takes."""
        tag, code = fields.pop("tag", PLAIN), [str(word) for word in fields.pop("codes", ())]
        command = ["/bin/sh", "work.sh", str(self._ground.journal), tag, str(fifths), *code]
        plan.subprocess(key, command, needs=needs, **fields)
        return key

    def _quick(self, plan: Plan, key: str, needs: Sequence[str]) -> str:
        if self._rng.random() < 0.5:
            plan.noop(key, needs=needs)
            return key
        return self._work(plan, key, needs, self._rng.randint(0, 3))

    def _chain(self, plan: Plan) -> Shape:
        last: list[str] = []
        for number in range(self._rng.randint(3, 9)):
            last = [self._quick(plan, f"s{number}", last)]
        return Shape("chain", plan)

    def _fan(self, plan: Plan) -> Shape:
        first = self._quick(plan, "first", [])
        branches = [self._quick(plan, f"b{number}", [first]) for number in range(self._rng.randint(2, 12))]
        plan.noop("join", needs=branches)
        self._quick(plan, "last", ["join"])
        return Shape("fan", plan)

    def _diamonds(self, plan: Plan) -> Shape:
        top: list[str] = []
        for number in range(self._rng.randint(1, 3)):
            sides = [self._quick(plan, f"{side}{number}", top) for side in ("left", "right")]
            top = [f"bottom{number}"]
            self._work(plan, top[0], sides, 1)
        return Shape("diamonds", plan)

    def _retries(self, plan: Plan) -> Shape:
        well_from = self._rng.randint(2, 3)
        self._work(plan, "flaky", [], 1, codes=(75, well_from), retry=_SOON)
        self._quick(plan, "after", ["flaky"])
        return Shape("retries", plan)

    def _conditions(self, plan: Plan) -> Shape:
        self._work(plan, "fails", [], codes=(3,), on_failure="continue", retry=1)
        self._work(plan, "repair", ["fails"], 1, when="failed")
        plan.noop("never", needs=["fails"])
        plan.noop("told", needs=["fails"], when="{{ steps.fails.exit_code == 3 }}")
        self._quick(plan, "always", ["repair", "never"])
        plan.noop("end", needs=["always", "told"], when="always")
        return Shape("conditions", plan)

    def _broken(self, plan: Plan) -> Shape:
        self._work(plan, "fails", [], codes=(3,), retry=1)
        self._work(plan, "other", [], 4)
        self._quick(plan, "never", ["fails"])
        return Shape("broken", plan)

    def _hold(self, plan: Plan) -> Shape:
        self._quick(plan, "before", [])
        for number in range(self._rng.randint(1, 3)):
            self._work(plan, f"once{number}", ["before"], self._rng.randint(2, 30), tag=HOLD, on_lost="hold")
        plan.noop("after", needs=["once0"])
        return Shape("hold", plan)

    def _rates(self, plan: Plan) -> Shape:
        for number in range(self._rng.randint(3, 8)):
            rate = {"key": "paced", "limit": "180/m", "burst": 5}
            self._work(plan, f"call{number}", [], rate_limit=rate)
        return Shape("rates", plan)

    def _places(self, plan: Plan) -> Shape:
        for number in range(self._rng.randint(2, 4)):
            place = {"key": "shared", "limit": PLACES}
            self._work(plan, f"in{number}", [], self._rng.randint(1, 3), tag=PLACE, concurrency=place)
        return Shape("places", plan)

    def _call(self, plan: Plan, key: str, needs: Sequence[str], model: str) -> str:
        plan.llm(key, model=f"stub:{model}", prompt=f"{SENTINEL} say something", max_tokens=60, needs=needs)
        return key

    def _calls(self, plan: Plan) -> Shape:
        models = [self._rng.choice(("ok", "slow", "slow", "no-usage", GREEDY)) for _ in range(self._rng.randint(2, 4))]
        calls = [self._call(plan, f"ask{number}", [], model) for number, model in enumerate(models)]
        plan.subprocess("use", ["cat"], stdin=f"{{{{ steps.{calls[0]}.text }}}}", needs=calls)
        return Shape("calls", plan)

    def _capped(self, plan: Plan) -> Shape:
        last: list[str] = []
        for number in range(5):
            last = [self._call(plan, f"ask{number}", last, self._rng.choice(("ok", "slow")))]
        side = [self._call(plan, f"side{number}", [], "ok") for number in range(2)]
        plan.noop("end", needs=[*last, *side])
        return Shape("capped", plan, budget={"tokens": RUN_TOKENS})

    def _thrifty(self, plan: Plan) -> Shape:
        for number in range(3):
            self._call(plan, f"ask{number}", [], "ok")
        return Shape("thrifty", plan, project=THRIFTY_PROJECT)

    def _long(self, plan: Plan) -> Shape:
        for number in range(3):
            self._work(plan, f"long{number}", [], self._rng.randint(10, 40))
        self._quick(plan, "after", ["long0", "long1"])
        return Shape("long", plan)

    def _items(self, plan: Plan) -> Shape:
        """Two foreachs, one inside the other, and one item of the outer that fails."""
        self._quick(plan, "before", [])
        most = self._rng.randint(1, 3)
        with plan.foreach(
            "each", list(range(self._rng.randint(2, 5))), max_parallel=most, merge="partial", needs=["before"]
        ) as each:
            self._work(each, "first", [], self._rng.randint(0, 4), codes=("{{ 3 if index == 1 else 0 }}",), retry=1)
            each.noop("inner", foreach=[1, 2, 3], needs=["first"])
            self._work(each, "last", ["inner"], 1)
        plan.noop("after", needs=["each"])
        return Shape("items", plan)

    def _routes(self, plan: Plan) -> Shape:
        """A route that is chosen, a merge behind it, and a wait."""
        route = self._rng.choice(("short", "long", "other"))
        plan = Plan("routes", vars={"route": {"default": route}}, files=["work.sh"], folder=self._ground.plans)
        plan.switch("route", on="vars.route", cases={"short": "quick", "long": ["slow", "rest"]}, default="short")
        self._quick(plan, "quick", ["route"])
        self._work(plan, "slow", ["route"], 5)
        plan.wait("rest", for_=f"{self._rng.randint(1, 4)}s", needs=["route"])
        plan.noop("merge", needs=["quick", "slow", "rest"], when="taken")
        self._quick(plan, "end", ["merge"])
        return Shape("routes", plan)

    def _children(self, plan: Plan) -> Shape:
        """Child runs, one after the other, one of them of a plan that fails."""
        child = Plan("child", vars={"code": {"default": 0}}, files=["work.sh"], folder=self._ground.plans)
        self._work(child, "work", [], self._rng.randint(1, 8), codes=("{{ vars.code }}",), retry=1)
        child.noop("end", needs=["work"])
        given = {"code": "{{ item }}"}
        plan.run("each", child, vars=given, foreach={"items": [0, 3, 0], "max_parallel": 2, "merge": "partial"})
        self._quick(plan, "after", ["each"])
        return Shape("children", plan)

    def _asked(self, plan: Plan) -> Shape:
        """A gate and a signal, both for the person to give, beside work that goes on."""
        self._quick(plan, "before", [])
        plan.approval("gate", "May it go on?", allow_self=True, needs=["before"])
        plan.wait("signal", event=SIGNAL, needs=["before"])
        self._work(plan, "beside", ["before"], 4)
        self._work(plan, "after", ["gate", "signal"], 2, tag=HOLD, on_lost="hold")
        return Shape("asked", plan)

    def _service(self, plan: Plan) -> Shape:
        body = {"model": "ok", "messages": [{"role": "user", "content": "hello"}]}
        plan.http("ask", f"{self._ground.stub.base_url}/chat/completions", method="POST", json=body, needs=[])
        self._quick(plan, "after", ["ask"])
        return Shape("service", plan)
