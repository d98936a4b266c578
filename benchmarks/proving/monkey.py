"""The monkey: makes faults at random moments, several at once where they break different things.

Owns when what happens. Each kind comes before any comes again. It works in the main thread, which the servers are bound
to; the same seed and the same length give the same faults in the same order, as far as there is something to break.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
import time
from collections.abc import Iterable
from typing import Any

from proving.arena import Arena, Made, now
from proving.faults import FAULTS, NOTHING, TRANSIENT, Broken, Fault

REMEMBER_SECONDS = 4.0
SHORTEST_GAP = 0.3


class Monkey:
    """Breaks things for a while; ``made`` is what it did."""

    def __init__(self, arena: Arena, kinds: Iterable[str], every_seconds: float, rng: random.Random) -> None:
        self._arena = arena
        self._kinds = list(kinds)
        self._every = every_seconds
        self._rng = rng
        self._deck: list[Fault] = []
        self._standing: list[tuple[float, int, Made, Broken, Fault]] = []
        self._numbers = itertools.count()
        self._began = time.monotonic()
        self.made: list[Made] = []

    def run(self, seconds: float) -> None:
        """Make faults for so long; every one is mended at the end."""
        self._began = time.monotonic()
        ends_at = self._began + seconds
        next_at, remember_at = self._began, self._began
        while (moment := time.monotonic()) < ends_at:
            if self._standing and self._standing[0][0] <= moment:
                self._mend()
            elif next_at <= moment:
                self._break(ends_at - moment)
                next_at = time.monotonic() + max(SHORTEST_GAP, self._rng.expovariate(1 / self._every))
            elif remember_at <= moment:
                self._arena.remember()
                remember_at = time.monotonic() + REMEMBER_SECONDS
            else:
                due = min(next_at, remember_at, ends_at, *(each[0] for each in self._standing[:1]))
                time.sleep(max(0.0, due - moment))
        self.mend_all()

    def mend_all(self) -> None:
        """Mend whatever is still broken."""
        while self._standing:
            self._mend()

    def _break(self, seconds_left: float) -> None:
        fault = self._draw()
        if fault is None:
            return
        at = now()
        try:
            broken = fault.make(self._arena)
        except TRANSIENT as error:
            self._say(f"{fault.kind} could not be made: {type(error).__name__}")
            return
        if broken is None:
            self._say(f"{fault.kind}: nothing to break")
            return
        made = Made(fault.kind, at, min(broken.seconds, seconds_left), broken.hits, broken.note)
        self.made.append(made)
        self._say(f"{fault.kind} {broken.note}" + (f" for {made.seconds:.1f} s" if broken.undo else ""))
        if broken.undo is None:
            made.ended_at = now()
        else:
            end = (time.monotonic() + made.seconds, next(self._numbers), made, broken, fault)
            heapq.heappush(self._standing, end)

    def _mend(self) -> None:
        _, _, made, broken, fault = heapq.heappop(self._standing)
        if broken.undo is not None:
            broken.undo()
        made.ended_at = now()
        self._say(f"{fault.kind} over")

    def _draw(self) -> Fault | None:
        """Take the first card of the deck that breaks nothing that is broken already."""
        if not self._deck:
            self._deck = [FAULTS[kind] for kind in self._kinds]
            self._rng.shuffle(self._deck)
        taken = {entry[4].breaks for entry in self._standing}
        for place, fault in enumerate(self._deck):
            if fault.breaks == NOTHING or fault.breaks not in taken:
                return self._deck.pop(place)
        return None

    def _say(self, *words: Any) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s ", *words, file=sys.stderr, flush=True)
