"""Both parsers read every hostile line alike: the corpus, its values in every place, and messages changed at random."""

from collections.abc import Iterable, Iterator
from itertools import count

import pytest

from collector.parse.parsed import Parsed
from core.events import wire
from core.sources.fields import MAX_DEPTH, MAX_EVENT_BYTES
from tests.fuzz.differential import Pair, fuzz
from tests.fuzz.mutations import RECEIVED, corpus
from tests.support.events import MAKERS, SHAPES, changed, encoded, part, paths
from tests.support.tools import require_native

MESSAGES = 4_000
"""In the suite; `make fuzz` goes on for as long as it is reported to."""


@pytest.fixture(params=["facebook", "tiktok"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Both parsers of a source."""
    require_native()
    return Pair(request.param)


def read(pair: Pair, lines: Iterable[bytes]) -> Parsed:
    """What both parsers make of these lines, received on the corpus' day."""
    lines = list(lines)
    return pair.read(wire.encode([part(len(lines), received_at=RECEIVED)], lines))


@pytest.mark.parametrize("name", ["valid.txt", "corrupt.txt", "hostile.txt", "values.txt"])
def test_the_corpus_is_read_alike(pair: Pair, name: str) -> None:
    """Each line gives the same row or the same invalid."""
    lines = corpus(name)
    assert read(pair, lines).events == len(lines)


def test_the_valid_corpus_is_valid(pair: Pair) -> None:
    """Every line of it becomes a row of its source: the likeness is not that of rejections alone."""
    lines = [line for line in corpus("valid.txt") if pair.source.encode() in line]
    assert len(lines) > 20
    assert read(pair, lines).invalid == []


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_every_value_in_every_place_is_read_alike(source: str, stage: str) -> None:
    """A hostile value for each key of each shape, for a key that is not known, and as a key."""
    require_native()
    event = MAKERS[source](stage, at=RECEIVED)
    values = corpus("values.txt")
    for path in [*paths(event), "added", "data.user.added"]:
        line = encoded(changed(event, path, "HERE"))
        read(Pair(source), (line.replace(b'"HERE"', value) for value in values))
    line = encoded(changed(event, "data.added", 1))
    read(Pair(source), (line.replace(b'"added"', value) for value in values))


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_every_small_damage_is_read_alike(source: str, stage: str) -> None:
    """An event that ends or begins at any byte, lacks any one byte, or has another one there."""
    require_native()
    line = encoded(MAKERS[source](stage, at=RECEIVED))

    def damaged() -> Iterator[bytes]:
        for at in range(len(line)):
            yield line[:at]
            yield line[at:]
            yield line[:at] + line[at + 1 :]
            for byte in b'"\\{}[],: 0a\x00\x80\xff':
                yield line[:at] + bytes([byte]) + line[at + 1 :]
                yield line[:at] + bytes([byte]) + line[at:]

    read(Pair(source), damaged())


@pytest.mark.parametrize("size", [MAX_EVENT_BYTES - 1, MAX_EVENT_BYTES, MAX_EVENT_BYTES + 1])
def test_the_largest_events_are_read_alike(pair: Pair, size: int) -> None:
    """An event of the limit is a row; one byte more is not, be it in a text or white space."""
    line = encoded(MAKERS[pair.source](at=RECEIVED))
    added = line[:-1] + b',"added":"%s"}'
    lines = [
        line.ljust(size),
        added % (b"x" * (size - len(added) + 2)),
        added % (b"\\n" * ((size - len(added) + 2) // 2)),
    ]
    assert all(size - 1 <= len(line) <= size for line in lines)
    assert len(read(pair, lines[:2]).invalid) == (2 if size > MAX_EVENT_BYTES else 0)
    read(pair, lines)


@pytest.mark.parametrize("depth", [64, *range(125, 131), 500, 950, 1_000, 40_000])
def test_depth_is_read_alike(pair: Pair, depth: int) -> None:
    """Lists and objects in a value that is passed over, whether they are closed or not."""
    line = encoded(MAKERS[pair.source](at=RECEIVED))
    opened, closed = (b"[" * depth, b'{"a":' * depth), (b"]" * depth, b"1" + b"}" * depth)
    for first, last in zip(opened, closed, strict=True):
        deep = line[:-1] + b',"deep":' + first + last + b"}"
        invalid = read(pair, [deep, line[:-1] + b',"deep":' + first, first + last]).invalid
        assert (invalid[0].position == 0) == (1 + depth > MAX_DEPTH), "the event itself is the first level"
        if 1 + depth > MAX_DEPTH:
            assert [event.reason for event in invalid[:2]] == ["too_deep", "too_deep"]


def test_messages_changed_at_random_are_read_alike() -> None:
    """The fuzz target, for a moment: the same messages in every run."""
    require_native()
    number = count()
    messages, rows, invalid = fuzz(seed=7, more=lambda: next(number) < MESSAGES)
    assert messages == MESSAGES
    assert min(rows, invalid) > MESSAGES / 2, "what is read is neither all valid nor all broken"
