"""Whatever happens between Postgres and Redis, no cap is passed, and at rest both say the same."""

from __future__ import annotations

import random

import pytest
import redis

from agentflow.runtime import Runtime
from tests.integration.engine.ledger_game import Game

GAMES, MOVES = 5, 200


@pytest.mark.parametrize("seed", range(8))
def test_no_cap_is_passed_whatever_happens_between_the_servers(house: Runtime, seed: int) -> None:
    client = redis.Redis.from_url(house.servers.redis_url)
    for number in range(GAMES):
        game = Game(house.context, client, random.Random(seed * GAMES + number))  # noqa: S311 - the same games each time
        try:
            game.play(MOVES)
        finally:
            game.close()
            game.flush()
    client.close()
