"""The points at which a test can make the gateway fail, in the order in which a request reaches them: `core.faults`."""

from __future__ import annotations

from enum import StrEnum


class Point(StrEnum):
    READ = "gateway.read"  # the body is here, plain
    DECODED = "gateway.decoded"  # all its events are checked, none is published
    PUBLISHED = "gateway.published"  # JetStream has stored a message of it; its PubAck came in, not looked at yet
    ACKED = "gateway.acked"  # all PubAcks are there, the answer is not sent
