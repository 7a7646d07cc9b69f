"""The field types of the contract and their limits.

msgspec checks what a type annotation can express. `core.events.contract` checks the rest: texts (NUL, and length in
bytes of UTF-8) and instants. An instant is decoded as text, because msgspec accepts more digits and zone formats than
the contract.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from msgspec import Meta

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 128
"""Maximum nesting of objects and lists, including the event itself and unknown keys."""
MAX_ID_BYTES: Final = 200
MAX_TEXT_BYTES: Final = 8 * 1024
MAX_SMALLINT: Final = 32_767
MAX_INTEGER: Final = 2_147_483_647

Text = str
EventId = Annotated[str, Meta(extra={"value": "id"})]
Instant = Annotated[str, Meta(extra={"value": "instant"})]
SmallCount = Annotated[int, Meta(ge=0, le=MAX_SMALLINT)]
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Percentage = Annotated[int, Meta(ge=0, le=100)]
Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,10}(\.[0-9]{1,2})?\Z", extra={"value": "amount"})]

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL's epoch: instants are microseconds since it."""

END: Final = (datetime(2101, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
"""The end of the allowed range of instants, in microseconds since EPOCH."""

MINUTE_PATTERN: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-9]{2}"
SECOND_PATTERN: Final = r":[0-9]{2}(\.[0-9]{1,9})?"
ZONE_PATTERN: Final = r"([Zz]|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)"
"""RFC 3339, and the zones `±hhmm` and `±hh` of ISO 8601. The three patterns together match an instant."""

_MICROSECOND: Final = timedelta(microseconds=1)
_INSTANT: Final = re.compile(MINUTE_PATTERN + SECOND_PATTERN + ZONE_PATTERN)


class _Instants(dict[str, int]):
    """A cache of parsed instants.

    Events of one batch share few instants (55 in 1,000 events as sent), and a look-up costs much less than parsing.
    """

    MAX_CACHED: Final = 65_536

    def __missing__(self, text: str) -> int:
        if not _INSTANT.fullmatch(text):
            raise ValueError("not an RFC 3339 instant with a zone and at most 9 digits of fraction")
        try:
            # fromisoformat truncates the fraction after its sixth digit, as the contract does.
            microseconds = (datetime.fromisoformat(text.upper()) - EPOCH) // _MICROSECOND
        except (ValueError, OverflowError) as error:
            raise ValueError("the day or time does not exist") from error
        if not 0 <= microseconds < END:
            raise ValueError("outside the years 2000-2100")
        if len(self) >= self.MAX_CACHED:
            self.clear()
        self[text] = microseconds
        return microseconds


instant: Final[Callable[[str], int]] = _Instants().__getitem__
"""Return the microseconds since 2000-01-01T00:00:00Z of an RFC 3339 instant.

The zone may also be `±hhmm` or `±hh`. Of up to 9 digits of fraction, the first 6 count; the rest is truncated. Raises
ValueError if the text is not such an instant or is outside the years 2000-2100.
"""


def microseconds_of(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since 2000-01-01T00:00:00Z."""
    return (moment - EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """Convert microseconds since 2000-01-01T00:00:00Z to an aware datetime (UTC)."""
    return EPOCH + timedelta(microseconds=microseconds)
