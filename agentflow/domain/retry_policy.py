"""When a failed attempt is tried again, and how long after.

Owns the policy's values, the delay formula and the decision whether a failure is retryable. Reads no clock and rolls
no dice: the caller hands the fraction in. The written form of a policy is retry_document's.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


_LARGEST = 1e300


class Backoff(StrEnum):
    """How the delay grows with the number of failed attempts k."""

    EXPONENTIAL = "exponential"
    """base * factor ** (k - 1)"""
    LINEAR = "linear"
    """base * k"""
    CONSTANT = "constant"
    """base"""


class RetryPolicy(BaseModel):
    """How often a step is attempted in all, after which failures, and with which delays (in seconds)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_attempts: int = Field(default=3, ge=1, le=10_000)
    backoff: Backoff = Backoff.EXPONENTIAL
    base_seconds: Seconds = 0.7
    factor: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    max_delay_seconds: Seconds = 60.0
    jitter: float = Field(default=0.25, ge=0, le=1)
    on_exit_codes: tuple[int, ...] = ()
    on_messages: tuple[str, ...] = ()
    on_timeout: bool = False
    """Timeouts and lost connections."""
    retries_everything: bool = False

    def delay_seconds(self, failed_attempts: int, fraction: float) -> float:
        """Return the seconds to wait after ``failed_attempts`` (1 or more) attempts have failed.

        ``fraction`` in [0, 1) places the delay within the jitter: 0.5 is its middle. The cap holds for the result.
        """
        if failed_attempts < 1:
            raise ValueError("a delay follows at least one failed attempt")
        delay = self._plain_delay(failed_attempts)
        delay += delay * self.jitter * (2 * fraction - 1)
        return max(0.0, min(delay, self.max_delay_seconds))

    def _plain_delay(self, failed_attempts: int) -> float:
        match self.backoff:
            case Backoff.CONSTANT:
                return self.base_seconds
            case Backoff.LINEAR:
                return self.base_seconds * failed_attempts
            case Backoff.EXPONENTIAL:
                return self._exponential_delay(failed_attempts)

    def _exponential_delay(self, failed_attempts: int) -> float:
        if self.base_seconds == 0:
            return 0.0
        try:
            delay = self.base_seconds * self.factor ** (failed_attempts - 1)
        except OverflowError:
            delay = math.inf
        # Infinity times a jitter of nothing is not a number; the largest finite delay is as far beyond any cap.
        return min(delay, _LARGEST)

    def is_retryable(self, exit_code: int | None, is_timeout: bool, message: str) -> bool:
        """Whether a failure of this kind is tried again, attempts permitting.

        ``is_timeout`` also stands for a lost connection; ``message`` is searched for the listed ones without regard
        to case. The message may hold output of the command: it is read here and kept nowhere.
        """
        if self.retries_everything or (is_timeout and self.on_timeout):
            return True
        if exit_code is not None and exit_code in self.on_exit_codes:
            return True
        folded = message.casefold()
        return any(listed.casefold() in folded for listed in self.on_messages)


DEFAULT_RETRY = RetryPolicy(
    on_exit_codes=(75, 101, 111, 125), on_messages=("rate limit", "transient network"), on_timeout=True
)
"""What holds for a step when nothing is written: first delays 0.7 s and 1.4 s."""
