"""Bytes in flight: what fits is taken, what does not is rejected at once, and all of it is given back."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from gateway.admission import MAX_WAIT_SECONDS, REQUEST_BYTES, Admission
from gateway.rejection import Overloaded

SHARE = 1_000_000


def test_bodies_are_taken_up_to_the_share() -> None:
    """Bodies are let in until the share is full to the byte; the next one is not, and costs nothing."""
    admission = Admission(SHARE)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(admission.reserve(SHARE // 4 - REQUEST_BYTES))
        assert admission.held_bytes == SHARE
        with pytest.raises(Overloaded):
            held.enter_context(admission.reserve(0))
        assert (admission.held_bytes, admission.requests) == (SHARE, 4)
    assert (admission.held_bytes, admission.requests) == (0, 0)


def test_an_idle_worker_takes_a_body_larger_than_its_share() -> None:
    """One body alone is always taken, for it is legal; while it is held, nothing else is."""
    admission = Admission(SHARE)
    with admission.reserve(3 * SHARE), pytest.raises(Overloaded), admission.reserve(1):
        pass
    with admission.reserve(1):
        pass


def test_a_body_larger_than_the_share_waits_for_an_idle_worker() -> None:
    """Beside others, a body larger than the share is rejected."""
    admission = Admission(SHARE)
    with admission.reserve(1), pytest.raises(Overloaded), admission.reserve(3 * SHARE):
        pass


def test_growing_counts_like_coming() -> None:
    """A body that grows while it is inflated is rejected beside others, and alone goes on past the share."""
    admission = Admission(SHARE)
    with admission.reserve(0) as alone:
        alone.grow(2 * SHARE)
        assert admission.held_bytes == 2 * SHARE + REQUEST_BYTES
    with admission.reserve(0), admission.reserve(0) as other:
        other.grow(SHARE // 2)
        with pytest.raises(Overloaded):
            other.grow(SHARE // 2)
    assert admission.held_bytes == 0


def test_tiny_requests_are_not_free() -> None:
    """Each request is charged for its own cost beside its bytes: even empty ones fill the share in the end."""
    admission = Admission(SHARE)
    with ExitStack() as held, pytest.raises(Overloaded):
        for _ in range(SHARE // REQUEST_BYTES + 1):
            held.enter_context(admission.reserve(0))


def test_retry_after_is_what_the_backlog_takes() -> None:
    """Who finds no room is reported to come again when what is held will be answered, at the rate of late."""
    admission = Admission(SHARE)
    start = time.monotonic()
    admission.update_rate(start)
    with admission.reserve(SHARE // 2 - REQUEST_BYTES):
        pass
    admission.update_rate(start + 1)  # half a share in a second
    with admission.reserve(SHARE - REQUEST_BYTES):
        with pytest.raises(Overloaded) as rejected, admission.reserve(0):
            pass
        assert rejected.value.retry_after_seconds == 2
        for second in range(2, 60):  # nothing is answered any more
            admission.update_rate(start + second)
        with pytest.raises(Overloaded) as rejected, admission.reserve(0):
            pass
        assert rejected.value.retry_after_seconds == MAX_WAIT_SECONDS


def test_retry_after_is_short_where_nothing_is_known() -> None:
    """Before anything was answered there is no rate to go by."""
    admission = Admission(SHARE)
    with admission.reserve(SHARE), pytest.raises(Overloaded) as rejected, admission.reserve(0):
        pass
    assert rejected.value.retry_after_seconds == 1
