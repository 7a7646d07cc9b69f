"""Ratios of counts: shares, rates and conversions."""

from __future__ import annotations

from typing import Final

DIGITS: Final = 6
"""Digits after the point of a ratio."""


def ratio(part: int, whole: int) -> float | None:
    """Return part / whole, rounded to DIGITS; None if whole is 0."""
    return round(part / whole, DIGITS) if whole else None
