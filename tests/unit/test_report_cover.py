"""Rollups and signed rows together count every event once, in its own bucket."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from reporter.cover import QUARTER_HOUR, Cover, Span, cover, quarter_hour

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

# Few distinct instants, most of them at the ends of quarter-hours or of minutes: bounds and events often meet.
instants = st.builds(
    lambda minute, shift: NOON + timedelta(minutes=minute, microseconds=shift),
    st.one_of(st.sampled_from(range(0, 121, 15)), st.integers(0, 120)),
    st.sampled_from((0, 0, 0, 1, -1, 30_000_000)),
)


def counted(covered: Cover, bounds: list[datetime], events: Iterable[datetime]) -> Counter[int]:
    """What the database makes of a cover: each figure goes into the nearest bucket."""
    found: Counter[int] = Counter()

    def add(at: datetime, sign: int) -> None:
        found[bisect_right(bounds[1:-1], at)] += sign

    for event in events:
        quarter = quarter_hour(event)
        if covered.start <= quarter < covered.end and quarter not in covered.left_out:
            assert covered.has_rollups
            add(quarter, 1)
        for span in covered.spans:
            if span.start <= event < span.end:
                add(event, span.sign)
    return +found


@given(
    bounds=st.lists(instants, min_size=2, max_size=6, unique=True).map(sorted),
    events=st.lists(instants, max_size=40),
    now=st.one_of(instants, st.just(NOON + timedelta(days=1))),
)
@example(bounds=[NOON, NOON + timedelta(minutes=14)], events=[NOON + timedelta(minutes=14)], now=NOON)
def test_each_event_counts_once_in_its_bucket(bounds: list[datetime], events: list[datetime], now: datetime) -> None:
    """Whatever the bounds, the buckets hold what counting the events one by one gives."""
    expected = Counter(bisect_right(bounds, event) - 1 for event in events if bounds[0] <= event < bounds[-1])
    assert counted(cover(bounds, now), bounds, events) == expected


@given(bounds=st.lists(instants, min_size=2, max_size=2, unique=True).map(sorted))
def test_at_most_half_a_quarter_hour_of_rows_at_either_end(bounds: list[datetime]) -> None:
    """Past ranges longer than a quarter-hour read no more than 7.5 minutes of rows at each end."""
    spans = cover(bounds, NOON + timedelta(days=1)).spans
    if bounds[1] - bounds[0] > QUARTER_HOUR:
        assert all(span.end - span.start <= QUARTER_HOUR / 2 for span in spans)


def test_until_now_reads_no_rows_of_the_past() -> None:
    """A range that ends now takes the running quarter-hour's rollup, less what lies after now: next to nothing."""
    now = NOON + timedelta(minutes=14)
    assert cover([NOON, now], now).spans == (Span(now, NOON + QUARTER_HOUR, -1),)


def test_minutes_are_read_from_rows_in_one_go() -> None:
    """An hour by minutes needs no rollup and one span of rows."""
    covered = cover([NOON + timedelta(minutes=minute) for minute in range(61)], NOON)
    assert not covered.has_rollups
    assert covered.spans == (Span(NOON, NOON + timedelta(hours=1), 1),)


def test_quarter_hours_need_no_rows() -> None:
    """Bounds on quarter-hours are answered from the rollups alone."""
    covered = cover([NOON, NOON + QUARTER_HOUR, NOON + 4 * QUARTER_HOUR], NOON)
    assert covered == Cover(NOON, NOON + 4 * QUARTER_HOUR, (), ())
