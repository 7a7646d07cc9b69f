"""The reasons for dead letters: a closed list, used by metrics, the table dead_letters and operators."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

from core.events.contract import Reason


class StoreReason(StrEnum):
    """Why a valid event cannot be stored."""

    UNSTORABLE = "unstorable"  # PostgreSQL rejects its row
    BELOW_FLOOR = "below_floor"  # the partition of its day was dropped


DeadReason: TypeAlias = Reason | StoreReason
DEAD_REASONS: Final[tuple[DeadReason, ...]] = (*Reason, *StoreReason)
