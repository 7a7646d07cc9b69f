"""Templates of events: generated once, then filled with fresh values in less than a microsecond per event.

A page is the text of 64 events with placeholders for the values that differ in every event: ids and instants (fewer if
values repeat). Filling a page joins its fixed bytes with values that are generated for many events at a time.

Invariant: `make` could return the events of a filled page. All fillings of a page have the same length.

    make -> text with <placeholders> -> Page --fill(uuids, instant, noise)--> 64 events, commas between
"""

import re
from binascii import hexlify
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, count
from operator import itemgetter
from random import Random
from struct import Struct

import orjson

from bench.publisher.events import ALPHANUMERIC, make
from bench.publisher.values import VALUES, Values

UUIDS_A_PAGE = 128  # an event has at most two
PAGE_EVENTS = 64  # they share a millisecond: 50,000 events per second need at least 50 per millisecond


@dataclass(frozen=True, slots=True)
class Page:
    """Templates of PAGE_EVENTS events: fixed bytes, and the positions of fresh values between them."""

    fixed: tuple[bytes, ...]
    id_struct: Struct  # the widths of the ids between them, in order
    arrange: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    ends: tuple[int, ...]  # in bytes, of each event: fresh values have fixed widths

    def fill(self, uuids: tuple[bytes, ...], stamp: bytes, noise: bytes) -> bytes:
        """Return the events, from UUIDS_A_PAGE UUIDs, an instant and `id_struct.size` random bytes."""
        ids = self.id_struct.unpack(noise.translate(ALPHANUMERIC))
        return b"".join(self.arrange((*self.fixed, *uuids, stamp, *ids)))


class _Placeholders:
    """Values for `make` that are placeholders, so that it returns a template."""

    def uuid(self) -> str:
        return "<uuid>"

    def instant(self) -> str:
        return "<instant>"

    def alphanumeric(self, count: int) -> str:
        return f"<{count}>"


_PLACEHOLDER = re.compile(rb"<(uuid|instant|\d)>")


def _width(gap: bytes) -> int:
    return {b"uuid": 36, b"instant": 24}.get(gap) or int(gap)


def make_page(rng: Random, shared: dict[bytes, bytes], values: Values = VALUES["publisher"]) -> Page:
    """Return a page. `shared` holds one copy of each piece that several pages have in common."""
    events = [orjson.dumps(make(rng, _Placeholders(), values)) for _ in range(PAGE_EVENTS)]
    lengths = (len(_PLACEHOLDER.sub(lambda gap: b" " * _width(gap[1]), event)) for event in events)
    pieces = _PLACEHOLDER.split(b",".join(events))
    fixed, gaps = [shared.setdefault(piece, piece) for piece in pieces[0::2]], pieces[1::2]

    # Positions in the tuple that `fill` builds: fixed bytes, UUIDs, the instant, ids.
    uuids = count(len(fixed))
    stamp = len(fixed) + UUIDS_A_PAGE
    ids = count(stamp + 1)
    order = [0]
    for place, gap in enumerate(gaps, start=1):
        order += [stamp if gap == b"instant" else next(uuids if gap == b"uuid" else ids), place]

    return Page(
        fixed=tuple(fixed),
        id_struct=Struct("".join(f"{int(gap)}s" for gap in gaps if gap.isdigit())),
        arrange=itemgetter(*order),
        ends=tuple(end - 1 for end in accumulate(length + 1 for length in lengths)),
    )


def uuid_lots(rng: Random, lot: int) -> Iterator[tuple[bytes, ...]]:
    """Yield random (version 4) UUIDs as text, `lot` at a time."""
    block = 8 * lot
    places = [place for place in range(36) if place not in {8, 13, 18, 23}]
    text = bytearray(b"-" * 36 * block)
    unpack = Struct("36s" * block).unpack
    variant = bytes(b"89ab"[digit % 4] for digit in range(256))
    while True:
        digits = hexlify(rng.randbytes(16 * block))
        for column, place in enumerate(places):
            text[place::36] = digits[column::32]
        text[14::36] = b"4" * block
        text[19::36] = digits[16::32].translate(variant)
        uuids = unpack(text)
        yield from (uuids[start : start + lot] for start in range(0, block, lot))
