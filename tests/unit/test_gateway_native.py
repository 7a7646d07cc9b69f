"""Reading arrays natively at the gateway: nothing but the cost of an event reports it from reading them with Python
alone.

`tests.support.batch_reader.read` reads each body both ways and holds what becomes of them to each other.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from random import Random
from typing import Annotated

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core import native as module
from core.sources import SOURCES
from core.sources.shape import ColumnType, describe
from gateway import brackets, native, split
from gateway.body import BodyFormat
from gateway.piece import Elements
from gateway.rejection import Rejected
from tests.fuzz.mutations import RECEIVED, Mutator, corpus
from tests.support import batch_reader
from tests.support.batch_reader import CONTRACT, read
from tests.support.events import encoded, facebook, microseconds, tiktok
from tests.support.json_corpus import DOCUMENTS
from tests.support.tools import require_native

GOOD = [encoded(facebook()), encoded(tiktok()), encoded(facebook("bottom")), encoded(tiktok("bottom"))]
BODY = b"[" + b",".join(GOOD) + b"]"
BLANKS = (b"", b"", b"", b" ", b"\n", b"\r\n\t ")
BETWEEN = (b",", b",", b",", b",", b",,", b"", b"]", b"}", b"{", b'"', b",[", b"],")


@pytest.fixture(autouse=True)
def built() -> None:
    require_native()


@pytest.fixture(params=["as they are", "small"])
def pieces(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pieces so small that each body has several, so that reading goes on from anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "small":
            patch.setattr(native, "PIECE_BYTES", 700)
            patch.setattr(split, "PIECE_BYTES", 900)
            patch.setattr(brackets, "CAREFUL_BYTES", 50)
        yield


async def read_alike(body: bytes) -> None:
    with suppress(Rejected):  # both ways, and for the same reason
        await read(body, at=RECEIVED)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An array of events that are valid or mutated, with what may stand between and around them."""
    seed = draw(st.integers(0, 2**32))
    random, mutator = Random(seed), Mutator(seed)
    wild = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    blank = draw(st.sampled_from(BLANKS))
    body = bytearray(blank + b"[" + blank)
    for number in range(draw(st.integers(0, 12))):
        if number:
            body += blank + (random.choice(BETWEEN) if random.random() < wild / 10 else b",") + blank
        if random.random() < wild:
            body += mutator.line(random.choice(("facebook", "tiktok")))
        else:
            body += random.choice(VALID)
    body += blank + draw(st.sampled_from([b"]", b"]", b"]", b"", b",]", b"] x", b"]]", b"]" + b" " * 2000])) + blank
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        at = random.randint(0, len(body))
        body[at : at + random.choice((0, 1))] = random.choice(
            (b"", b",", b'"', b"{", b"}", b"[", b"]", b"\n", b"\\", b"\xff")
        )
    return bytes(body)


VALID = corpus("valid.txt")


@pytest.mark.usefixtures("pieces")
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(body=bodies())
@example(body=b"[" + VALID[0] + b",]")
@example(body=b"[" + VALID[0] + b"}," + VALID[0] + b"]")
@example(body=b"[" + VALID[0].replace(b":", b":\n", 1) + b"," + VALID[0] + b"]")
async def test_any_body_is_read_alike(body: bytes) -> None:
    """Counts, bytes, reasons, what is reported and what is kept: all as Python alone has them."""
    await read_alike(body)


@pytest.mark.usefixtures("pieces")
async def test_the_corpora_are_read_alike() -> None:
    """So are the documents that strain a JSON reader, and the lines of the fuzzers' corpus, alone and among events."""
    for document in (*chain(*DOCUMENTS.values()), *corpus()):
        for body in (document, b"[%b]" % document, b"[%b,%b,%b]" % (VALID[0], document, VALID[1])):
            await read_alike(body)


async def test_valid_events_never_reach_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of events of all shapes, with white space between them, is read natively to its end."""
    reader = native.reader(CONTRACT)
    assert reader
    content = b" [\r\n" + b" ,\n\t".join(GOOD) + b" ] \n"
    run = reader(content, content.index(b"[") + 1, microseconds())
    assert (run.resume_at, run.filled, run.events) == (None, False, 4)
    assert run.blocks == {
        "facebook": (2, GOOD[0] + b"\n" + GOOD[2]),
        "tiktok": (2, GOOD[1] + b"\n" + GOOD[3]),
    }


async def test_one_call_reads_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call ends with the event that fills its piece: how long it takes does not depend on the body."""
    monkeypatch.setattr(native, "PIECE_BYTES", len(GOOD[0]) + 2)
    reader = native.reader(CONTRACT)
    assert reader
    run = reader(BODY, 1, microseconds())
    assert (run.filled, run.events) == (True, 2)
    assert run.resume_at == 1 + len(GOOD[0]) + 1 + len(GOOD[1]) + 1


async def test_what_is_left_costs_only_itself() -> None:
    """An event that is rejected, or that has to be compacted, is Python's; those around it are read natively."""
    for left in (b'{"a":"%b"}' % (b"x" * split.FIRST_LEFTOVER_BYTES), GOOD[0].replace(b":", b":\n", 1)):
        pieces = list(split.split(b"[%b,%b,%b]" % (GOOD[0], left, GOOD[1]), BodyFormat.JSON, _reading_now))
        assert [piece.raw if isinstance(piece, Elements) else piece.events for piece in pieces] == [1, [left], 1]


async def test_a_body_of_nothing_valid_is_soon_read_as_without_it() -> None:
    """Where one element after the other is left, more and more of them are taken at a time."""
    requested = 0

    def read(content: bytes, at: int) -> native.Run:
        nonlocal requested
        requested += 1
        return _reading_now(content, at)

    bad = b'{"a":' + b" " * 200 + b"1}"
    pieces = list(split.split(b"[" + b",".join([bad] * 10_000) + b"]", BodyFormat.JSON, read))
    assert sum(piece.events for piece in pieces) == 10_000
    assert requested < 10 + 10_000 * len(bad) / split.PIECE_BYTES * 2


def test_each_instant_of_the_contract_is_known_as_one() -> None:
    """msgspec takes an instant for any text: the field type reports them apart."""
    described = [describe(shape) for source in SOURCES.values() for shape in source.shapes]
    found = {field.path for fields in described for field in fields if field.type is ColumnType.TIMESTAMP}
    assert found == {"timestamp", "data.engagement.actionTime"}


def test_a_type_that_no_column_holds_is_rejected() -> None:
    """What could not be held to the contract is an error at the start, never a guess."""

    class Weighed(msgspec.Struct):
        weight: Annotated[int, msgspec.Meta(gt=0)]

    with pytest.raises(TypeError, match="weight: no column can store"):
        describe(Weighed)


async def test_without_a_build_python_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no reader then, and all is as it was."""
    monkeypatch.setattr(module, "NOT_BUILT", "it is not built")
    assert native.reader(CONTRACT) is None
    monkeypatch.setattr(batch_reader, "READER", None)
    assert (await read(BODY)).accepted_events == 4


def _reading_now(content: bytes, at: int) -> native.Run:
    reader = native.reader(CONTRACT)
    assert reader
    return reader(content, at, microseconds())
