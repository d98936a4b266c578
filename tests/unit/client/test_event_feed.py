"""A feed reads as far as nothing can appear any more, and no further; so each event comes once and in its order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from agentflow.client.feed import Horizon


@dataclass
class Ledger:
    """Transactions that take ids and end, in any order, as Postgres shows them to others."""

    newest_given: int = 0
    open: dict[str, list[int]] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def take_id(self, writer: str) -> None:
        """Take an id in the transaction of a writer."""
        self.newest_given += 1
        self.open.setdefault(writer, []).append(self.newest_given)

    def end(self, writer: str, *, commits: bool) -> None:
        """End a writer's transaction."""
        ids = self.open.pop(writer, [])
        if commits:
            self.seen |= set(ids)

    @property
    def newest(self) -> int:
        """The highest id that can be seen."""
        return max(self.seen, default=0)

    def writers(self) -> frozenset[str]:
        """Whose transactions are open."""
        return frozenset(self.open)


def test_nothing_is_settled_above_an_id_that_may_still_appear() -> None:
    ledger, horizon = Ledger(), Horizon()
    ledger.take_id("slow")
    ledger.take_id("quick")
    ledger.end("quick", commits=True)

    assert horizon.advance(ledger.newest, ledger.writers) is None
    ledger.end("slow", commits=False)
    assert horizon.advance(ledger.newest, ledger.writers) == 2


def test_those_who_began_later_hold_nothing_up() -> None:
    ledger, horizon = Ledger(), Horizon()
    ledger.take_id("a")
    ledger.end("a", commits=True)
    ledger.take_id("b")
    horizon.advance(ledger.newest, ledger.writers)
    ledger.end("b", commits=True)
    ledger.take_id("c")

    assert horizon.advance(ledger.newest, ledger.writers) == 1
    assert horizon.is_waiting
    assert horizon.writers == {"c"}


def test_while_nothing_is_new_nobody_is_asked_who_writes() -> None:
    horizon = Horizon()
    horizon.advance(7, frozenset)

    def refuse() -> frozenset[str]:
        raise AssertionError

    assert horizon.advance(7, refuse) == 7


ACTIONS = st.lists(st.tuples(st.sampled_from(["id", "commit", "abort", "look"]), st.sampled_from("abcd")), max_size=60)


@given(ACTIONS)
def test_in_whatever_order_transactions_end_each_event_is_read_once_and_in_order(script: list[tuple[str, str]]) -> None:
    ledger, horizon, generation = Ledger(), Horizon(), 0
    given_out: list[int] = []

    def look() -> None:
        settled = horizon.advance(ledger.newest, ledger.writers)
        if settled is not None:
            after = given_out[-1] if given_out else 0
            given_out.extend(sorted(each for each in ledger.seen if after < each <= settled))

    for action, writer in script:
        name = f"{writer}{generation}"
        if action == "id":
            ledger.take_id(name)
        elif action == "look":
            look()
        else:
            ledger.end(name, commits=action == "commit")
            generation += 1
    for name in list(ledger.open):
        ledger.end(name, commits=True)
    look()
    look()

    assert given_out == sorted(ledger.seen)
