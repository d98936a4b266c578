"""Tallies: what is counted for good, and in which buckets durations are counted.

Owns the names. The counting is done by the database's triggers (migration 0005) and, for what leaves no row, by the
dispatcher; what monitors are told of it is monitor/metrics.py's.
"""

from __future__ import annotations

from enum import StrEnum


class Tally(StrEnum):
    """What is counted. Its labels stand behind the name."""

    RUN_SUBMITTED = "run_submitted"
    RUN_ENDED = "run_ended"
    """state"""
    STEP_ENDED = "step_ended"
    """action, state"""
    ATTEMPT = "attempt"
    """action, outcome; with its seconds"""
    HAND_OVER = "hand_over"
    """action; with the seconds from due to started"""
    GATE_ENDED = "gate_ended"
    """kind, state"""
    DELIVERY_ENDED = "delivery_ended"
    """state"""
    MODEL_CALL = "model_call"
    """provider, model; with its seconds"""
    TOKEN = "token"  # noqa: S105 - what models are paid by
    """provider, model, direction"""
    COST = "cost"
    """provider, model; the count is of calls of unknown price, the total of nano-dollars"""
    DISPATCHER = "dispatcher"
    """the act"""


class Act(StrEnum):
    """What a dispatcher does."""

    SENT = "sent"
    """doorbells for due steps"""
    RECALLED = "recalled"
    """doorbells that were lost, noted as such so that they are sent again"""
    RESCUED = "rescued"
    """attempts whose worker was lost"""
    WOKEN = "woken"
    """steps whose wait, or whose gate's time, was over"""
    RUN_ENDED = "run_ended"
    """runs that were over and that nobody had ended"""
    CHILD_TENDED = "child_tended"
    """child runs that were to be started, ended or told of"""
    SWEPT = "swept"
    """reservations that nobody had ended in the ledger"""


BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 28800, float("inf"))
"""Upper bounds in seconds, the bound itself included."""
