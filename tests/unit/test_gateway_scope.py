"""The scope of a request: every error has an answer, and a request is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from core.errors import StreamFull
from gateway import metrics
from gateway.rejection import NotServing, Rejected, Rejection
from gateway.scope import AccessLog, RequestScope


class Lines(AccessLog):
    """Keeps what would be logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, Mapping[str, object]]] = []

    def write(self, correlation_id: str, status: int, milliseconds: float, said: Mapping[str, object]) -> None:
        self.lines.append((status, dict(said)))


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Rejected(Rejection.TOO_LARGE, "too large"), 413, {"rejection": "too_large"}),
        (Rejected(Rejection.UNSIGNED, "no signature"), 401, {"rejection": "unsigned"}),
        (StreamFull("no room"), 503, {"error": "StreamFull('no room')"}),
        (NotServing("starting"), 503, {"error": "NotServing('starting')"}),
        (KeyError("a defect"), 500, {}),
    ],
)
def test_every_error_has_its_answer(error: Exception, status: int, said: dict[str, object]) -> None:
    """An error ends in the answer with its status, one count of that status, and one line that names the error."""
    log = Lines()
    metrics.flush()
    before = metrics.requests[status].total
    with RequestScope({}, 7, log) as scope:
        raise error
    metrics.flush()
    assert scope.response.status == status
    assert log.lines == [(status, {"bytes": 7, **said})]
    assert metrics.requests[status].total == before + 1


def test_a_cancelled_request_has_no_answer() -> None:
    """Cancellation passes through: nothing is counted or logged."""
    log = Lines()
    with pytest.raises(asyncio.CancelledError), RequestScope({}, 7, log):
        raise asyncio.CancelledError
    assert log.lines == []
