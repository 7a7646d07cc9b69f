"""The points at which a test can make the gateway fail (`core/faults.py`).

read -> decoded -> published -> acked     a request, and the PubAcks of its messages
"""

from __future__ import annotations

from typing import Final

POINTS: Final = (
    "gateway.read",  # the body is here, plain
    "gateway.decoded",  # all its events are checked, none is published
    "gateway.published",  # JetStream has stored a message of it; its PubAck came in and is not looked at yet
    "gateway.acked",  # all PubAcks are there, the answer is not sent
)
