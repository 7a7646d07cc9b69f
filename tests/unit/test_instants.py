"""Instants: the RFC 3339 texts that the contract takes, and the microseconds they stand for."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.sources.fields import EPOCH, instant, microseconds_of, moment_of

LAST = datetime(2100, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

moments = st.datetimes(
    min_value=datetime(2000, 1, 2), max_value=datetime(2100, 12, 30), timezones=st.just(UTC)
) | st.sampled_from([EPOCH, LAST])
offsets = st.integers(-(23 * 60 + 59), 23 * 60 + 59)


def written(
    moment: datetime, offset_minutes: int, *, digits: int, zulu: str = "Z", separator: str = "T", colon: str = ":"
) -> str:
    """The moment on a clock so many minutes ahead of UTC, with so many digits of fraction (cut, not rounded).

    Digits from the seventh on are nines. Without a colon, a zone of whole hours has no minutes.
    """
    local = moment.astimezone(timezone(timedelta(minutes=offset_minutes)))
    fraction = f".{local.microsecond:06d}999"[: digits + 1] if digits else ""
    sign, minutes = ("+", offset_minutes) if offset_minutes >= 0 else ("-", -offset_minutes)
    zone = zulu if offset_minutes == 0 and zulu else f"{sign}{minutes // 60:02d}{colon}{minutes % 60:02d}"
    if not colon:
        zone = zone.removesuffix("00") if len(zone) > 1 else zone
    return f"{local:%Y-%m-%d}{separator}{local:%H:%M:%S}{fraction}{zone}"


@given(moments, offsets, st.integers(0, 9), st.sampled_from(["Z", "z", ""]), st.sampled_from("Tt"), st.booleans())
def test_an_instant_is_the_same_on_every_clock(
    moment: datetime, offset: int, digits: int, zulu: str, separator: str, colon: bool
) -> None:
    """Whatever its zone, separators and digits, a text gives the microseconds of its instant; more digits are cut."""
    step = 10 ** (6 - min(digits, 6))
    cut = moment.replace(microsecond=moment.microsecond // step * step)
    text = written(moment, offset, digits=digits, zulu=zulu, separator=separator, colon=":" if colon else "")
    assert instant(text) == (cut - EPOCH) // timedelta(microseconds=1)
    assert instant(text) == instant(text)  # looked up the second time


@given(moments)
def test_microseconds_are_exact_both_ways(moment: datetime) -> None:
    """A moment comes back from its microseconds unchanged: no float stands between."""
    assert moment_of(microseconds_of(moment)) == moment
    assert instant(moment.isoformat()) == microseconds_of(moment)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2000-01-01T00:00:00Z", EPOCH),
        ("2000-01-01T23:59:00+23:59", EPOCH),
        ("1999-12-31T00:01:00-23:59", EPOCH),
        ("2100-12-31T23:59:59.999999Z", LAST),
        ("2101-01-01T23:58:59.999999+23:59", LAST),
        ("2026-11-22T07:25:58.541-00:00", datetime(2026, 11, 22, 7, 25, 58, 541_000, tzinfo=UTC)),
        ("2028-02-29T12:00:00Z", datetime(2028, 2, 29, 12, tzinfo=UTC)),
        ("2026-11-22T07:25:58+0000", datetime(2026, 11, 22, 7, 25, 58, tzinfo=UTC)),  # Meta's Graph API
        ("2026-11-22T07:25:58.1234567Z", datetime(2026, 11, 22, 7, 25, 58, 123_456, tzinfo=UTC)),  # .NET, Power BI
        ("2026-11-22T09:25:58.123456789+02:00", datetime(2026, 11, 22, 7, 25, 58, 123_456, tzinfo=UTC)),  # Go, Java
        ("2026-11-22T07:25:58.9999999-00", datetime(2026, 11, 22, 7, 25, 58, 999_999, tzinfo=UTC)),
        ("2100-12-31T23:59:59.999999999+0000", LAST),
    ],
)
def test_both_ends_and_all_zones_are_taken(text: str, moment: datetime) -> None:
    """The first and the last instant are taken, from the clocks that are furthest away, too."""
    assert moment_of(instant(text)) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "invalid-timestamp",
        "1999-12-31T23:59:59.999999Z",  # before the first
        "2000-01-01T00:00:00+00:01",
        "2101-01-01T00:00:00Z",  # after the last
        "2100-12-31T23:59:59.999999-00:01",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "2026-11-22T07:25:58",  # no zone
        "2026-11-22T07:25:58 Z",
        "2026-11-22 07:25:58Z",
        "2026-11-22T07:25:58.Z",
        "1999-12-31T23:59:59.999999999Z",
        "2026-11-22T07:25:58.1234567890Z",  # ten digits
        "2026-11-22T07:25:58,5Z",
        "2026-11-22T07:25Z",
        "2026-11-22",
        "2026-11-22Z",
        "20261122T072558Z",
        "2026-W47-7T07:25:58Z",
        "2026-326T07:25:58Z",
        "2026-02-29T00:00:00Z",  # no such day
        "2026-13-01T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T23:60:00Z",
        "2026-12-31T23:59:60Z",  # a leap second: no clock of ours has it
        "2026-11-22T07:25:58+24:00",
        "2026-11-22T07:25:58+23:60",
        "2026-11-22T07:25:58+2400",
        "2026-11-22T07:25:58+24",
        "2026-11-22T07:25:58+0060",
        "2026-11-22T07:25:58+1",
        "2026-11-22T07:25:58+100",
        "2026-11-22T07:25:58+01:",
        "2026-11-22T07:25:58 0100",
        "2026-11-22T07:25:58+01:00:00",
        "2026-11-22T07:25:58ZZ",
        " 2026-11-22T07:25:58Z",
        "2026-11-22T07:25:58Z\n",
        "２０２６-11-22T07:25:58Z",  # digits that are not ASCII
        "2026-11-22T07:25:58\u2212" + "01:00",
        "+2026-11-22T07:25:58Z",
        "2026-11-22T07:25:58.541z\0",
        "1763796358",
    ],
)
def test_what_is_no_such_instant_is_reported(text: str) -> None:
    """Everything else is a ValueError with a sentence."""
    with pytest.raises(ValueError, match=r"RFC 3339|does not exist|outside the years"):
        instant(text)


@given(st.text(max_size=40) | st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z"))
def test_no_text_raises_anything_else(text: str) -> None:
    """A text is an instant of the years 2000-2100 or a ValueError."""
    try:
        microseconds = instant(text)
    except ValueError:
        return
    assert EPOCH <= moment_of(microseconds) <= LAST
