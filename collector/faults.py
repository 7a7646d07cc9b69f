"""The points at which a test can make a collector fail (`core/faults.py`).

fetched -> parsed -> copying -> merged -> committed -> acked
"""

from __future__ import annotations

from typing import Final

POINTS: Final = (
    "collector.fetched",  # messages are taken
    "collector.parsed",  # their rows are made
    "collector.copying",  # in the middle of a COPY
    "collector.merged",  # rows, rollups and receipts are written, not committed
    "collector.committed",  # committed, nothing is confirmed to JetStream
    "collector.acked",  # confirmed
)
