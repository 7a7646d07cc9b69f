"""Points at which a test can make a collector fail (see `core/faults.py`).

fetched -> parsed -> copying -> merged -> committed -> acked
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Point(StrEnum):
    FETCHED = "collector.fetched"  # messages are fetched
    PARSED = "collector.parsed"  # their rows are encoded
    COPYING = "collector.copying"  # during a COPY
    MERGED = "collector.merged"  # rows, rollups and receipts are written, but not committed
    COMMITTED = "collector.committed"  # committed, but not acknowledged
    ACKED = "collector.acked"  # acknowledged


BREAKDOWNS_COUNTED: Final = "collector.breakdowns_counted"
"""The breakdowns of a bucket are written, not committed."""
