"""The journal: what commands wrote of themselves, read as the lives of attempts, and what must hold of them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proving.plans import HOLD, PLACE, PLACES

TOLERANCE_SECONDS = 0.05
_WORDS = 6


@dataclass
class Life:
    """One start of a command: whose, when, and when it last gave a sign of life."""

    run: str
    step: str
    attempt: int
    tag: str
    started: float
    last: float
    has_ended: bool = False


class Journal:
    """The lives in the order of their starts."""

    def __init__(self, lines: Sequence[Sequence[str]]) -> None:
        self.lives: list[Life] = []
        self.torn = 0
        self._strays = 0
        latest: dict[tuple[str, str, str], Life] = {}
        for words in lines:
            if len(words) != _WORDS:
                self.torn += 1
                continue
            what, run, step, attempt, at, tag = words
            place = (run, step, attempt)
            if what == "start":
                latest[place] = Life(run, step, int(attempt), tag, float(at), float(at))
                self.lives.append(latest[place])
            elif place in latest:
                latest[place].last = float(at)
                latest[place].has_ended = what == "end"

    def by_step(self) -> dict[tuple[str, str], list[Life]]:
        """The lives of each step."""
        found: dict[tuple[str, str], list[Life]] = defaultdict(list)
        for life in self.lives:
            found[life.run, life.step].append(life)
        return found

    def find_overlaps(self) -> Iterator[str]:
        """Steps of which one start gave a sign of life after the next one's start; and attempts started twice."""
        for (run, step), lives in self.by_step().items():
            for one, other in itertools.pairwise(lives):
                if one.attempt == other.attempt:
                    yield f"run {run} step {step}: attempt {one.attempt} was started twice"
                if one.last > other.started + TOLERANCE_SECONDS:
                    yield (
                        f"run {run} step {step}: attempt {one.attempt} lived {one.last - other.started:.2f} s beyond "
                        f"the start of attempt {other.attempt}"
                    )

    def find_repeated_holds(self, retries: dict[tuple[str, str], int]) -> Iterator[str]:
        """Steps with on_lost hold that were started more often than a person's word allows."""
        for (run, step), lives in self.by_step().items():
            allowed = 1 + retries.get((run, step), 0)
            if lives[0].tag == HOLD and len(lives) > allowed:
                yield f"run {run} step {step}: on_lost is hold, started {len(lives)} times, {allowed - 1} retries"

    def most_in_places(self) -> int:
        """The most commands that were at work at once in the shared places."""
        moments = [(life.started, 1) for life in self.lives if life.tag == PLACE]
        moments += [(life.last, -1) for life in self.lives if life.tag == PLACE]
        most = inside = 0
        for _, change in sorted(moments):
            inside += change
            most = max(most, inside)
        return most

    def find_crowded_places(self) -> Iterator[str]:
        """Whether more commands were in the shared places than there are."""
        most = self.most_in_places()
        if most > PLACES:
            yield f"{most} commands were at work at once in {PLACES} places"
