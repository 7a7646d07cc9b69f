"""The points at which a test can make a collector fail (`core/faults.py`).

fetched -> parsed -> copying -> merged -> committed -> acked
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Point(StrEnum):
    FETCHED = "collector.fetched"  # messages are taken
    PARSED = "collector.parsed"  # their rows are made
    COPYING = "collector.copying"  # in the middle of a COPY
    MERGED = "collector.merged"  # rows, rollups and receipts are written, not committed
    COMMITTED = "collector.committed"  # committed, nothing is confirmed to JetStream
    ACKED = "collector.acked"  # confirmed


BREAKDOWNS_COUNTED: Final = "collector.breakdowns_counted"
"""The breakdowns of a bucket are written, not committed."""
