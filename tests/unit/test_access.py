"""Which requests are logged: all of few, and a known share of many."""

import pytest

from core.access_log import Sampler


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the sampler, in its only element."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def taken(sampler: Sampler, requests: int) -> list[int]:
    return [each for each in (sampler.sample() for _ in range(requests)) if each]


def test_few_requests_are_all_logged(clock: list[float]) -> None:
    """As long as no second has more than the log should hold, each request has its line."""
    sampler = Sampler(lines_a_second=100)
    for _ in range(3):
        assert taken(sampler, 100) == [1] * 100
        clock[0] += 1


def test_many_requests_are_sampled(clock: list[float]) -> None:
    """Of thousands a second about so many are logged as the log should hold; each line says how many it represents."""
    sampler = Sampler(lines_a_second=100)
    burst = taken(sampler, 5_000)
    assert 100 < len(burst) <= 100 * 7, "a burst is sampled before its second is over"
    for _ in range(3):
        clock[0] += 1
        lines = taken(sampler, 5_000)
        assert lines == [50] * 100
        assert sum(lines) == 5_000
    clock[0] += 1
    assert taken(sampler, 10) == [50]
    clock[0] += 1
    assert taken(sampler, 10) == [1] * 10, "a second later all are logged again"
