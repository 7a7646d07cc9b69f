"""Templates of events: made once as any event is, then filled with fresh values for less than a microsecond each.

A page is the text of 64 events with gaps where every event differs (event and user id, instants, ad, campaign,
video and profile id; fewer if values return). Filling it joins the fixed bytes with values that are drawn for many
events at a time.

Invariant: a filled page is what `make` could have returned, and as long as every other filling of that page.

    make -> text with <gaps> -> Page --fill(uuids, instant, noise)--> 64 events, commas between
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
PAGE_EVENTS = 64  # they share a millisecond; 50,000 made within a second need at least 50 in each


@dataclass(frozen=True, slots=True)
class Page:
    """Templates of PAGE_EVENTS events: what is fixed, and how fresh values go between."""

    fixed: tuple[bytes, ...]
    letters: Struct  # the widths of the ids between them, in order
    arrange: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    ends: tuple[int, ...]  # in bytes, of each event: fresh values have fixed widths

    def fill(self, uuids: tuple[bytes, ...], stamp: bytes, noise: bytes) -> bytes:
        """Takes UUIDS_A_PAGE UUIDs and `letters.size` random bytes."""
        ids = self.letters.unpack(noise.translate(ALPHANUMERIC))
        return b"".join(self.arrange((*self.fixed, *uuids, stamp, *ids)))


class _Gaps:
    """Stands where fresh values go, so that `make` makes a template."""

    def uuid(self) -> str:
        return "<uuid>"

    def instant(self) -> str:
        return "<instant>"

    def letters(self, count: int) -> str:
        return f"<{count}>"


_GAP = re.compile(rb"<(uuid|instant|\d)>")


def _width(gap: bytes) -> int:
    return {b"uuid": 36, b"instant": 24}.get(gap) or int(gap)


def make_page(rng: Random, shared: dict[bytes, bytes], values: Values = VALUES["publisher"]) -> Page:
    """Makes a page; `shared` keeps one copy of the pieces that many pages have in common."""
    events = [orjson.dumps(make(rng, _Gaps(), values)) for _ in range(PAGE_EVENTS)]
    lengths = (len(_GAP.sub(lambda gap: b" " * _width(gap[1]), event)) for event in events)
    pieces = _GAP.split(b",".join(events))
    fixed, gaps = [shared.setdefault(piece, piece) for piece in pieces[0::2]], pieces[1::2]

    # The places of what `fill` puts together: fixed bytes, ids, the instant, letters.
    uuids = count(len(fixed))
    stamp = len(fixed) + UUIDS_A_PAGE
    letters = count(stamp + 1)
    order = [0]
    for place, gap in enumerate(gaps, start=1):
        order += [stamp if gap == b"instant" else next(uuids if gap == b"uuid" else letters), place]

    return Page(
        fixed=tuple(fixed),
        letters=Struct("".join(f"{int(gap)}s" for gap in gaps if gap.isdigit())),
        arrange=itemgetter(*order),
        ends=tuple(end - 1 for end in accumulate(length + 1 for length in lengths)),
    )


def uuid_lots(rng: Random, lot: int) -> Iterator[tuple[bytes, ...]]:
    """Random (version 4) UUIDs as text, `lot` at a time."""
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
