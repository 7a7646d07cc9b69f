"""The fault points of the gateway, in the order in which a request reaches them; see `core.faults`."""

from __future__ import annotations

from enum import StrEnum


class Point(StrEnum):
    READ = "gateway.read"  # the body is read and plain
    DECODED = "gateway.decoded"  # all events are validated, none is published
    PUBLISHED = "gateway.published"  # JetStream has stored a message; its PubAck has arrived and is not processed
    ACKED = "gateway.acked"  # all PubAcks have arrived, the response is not sent
