"""How figures are written for people: durations, sizes, dollars.

Owns the wording; JSON has the full values.
"""

from __future__ import annotations

_SECONDS_SHOWN_TENTHS = 10


def duration(seconds: float | None) -> str:
    """Return a duration for a person: ``9 ms``, ``1.4 s``, ``12 s``, ``3 m 04 s``, ``2 h 05 m``, ``3 d 04 h``."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _SECONDS_SHOWN_TENTHS:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} m"
    return f"{minutes} m {rest:02} s" if minutes else f"{rest} s"


def size(count: int) -> str:
    """Return a number of bytes for a person: ``0 B``, ``812 B``, ``1.2 kB``, ``104.9 MB``."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def usd(value: float) -> str:
    """Return dollars with the cents, and with what is smaller where there is something: ``$0.50``, ``$0.000045``."""
    dollars, _, rest = f"{value:,.9f}".partition(".")
    return f"${dollars}.{rest.rstrip('0').ljust(2, '0')}"
