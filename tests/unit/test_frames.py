"""What a NATS server sends, cut into frames: however it arrives, and whatever it is."""

import inspect
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ProtocolError

from core.frames import MAX_LINE_BYTES, Frame, FrameBuffer, FrameParser

LINES = [
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR 'Stale Connection'\r\n",
    b'INFO {"max_payload":1048576}\r\n',
    b"?\r\n",
]
HEADERS = b"NATS/1.0\r\nSluice-Events: 3\r\n\r\n"
EACH_KIND: list[Frame] = [
    (1, b"events.facebook", b"", b"{}", None),
    b"PING\r\n",
    (12, b"_INBOX.a.b", b"$JS.ACK.1.2", b"a\r\nMSG x 1 3\r\nabc\r\n", None),
    (12, b"a", b"", b"", None),
    (7, b"a", b"", b"", HEADERS),
    LINES[4],
    (7, b"a", b"5", b"\r\n", HEADERS),
    (7, b"a", b"5", b"digits for a reply", None),
    b"\r\n",
]

payloads = st.binary(max_size=40) | st.builds(bytes.__mul__, st.binary(min_size=1, max_size=3), st.integers(0, 60_000))
tokens = st.text("abcXYZ0123456789._$>*-", min_size=1, max_size=20).map(str.encode)
messages = st.tuples(
    st.integers(0, 10**9), tokens, st.just(b"") | tokens, payloads, st.none() | st.just(HEADERS) | st.just(HEADERS * 40)
)


def sent(frames: Iterable[Frame]) -> bytes:
    """These frames as a server writes them."""
    return b"".join(frame if isinstance(frame, bytes) else _sent(*frame) for frame in frames)


def _sent(sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes | None) -> bytes:
    size = len(payload) + len(headers or b"")
    fields = [b"MSG" if headers is None else b"HMSG", subject, b"%d" % sid, *([reply] if reply else [])]
    fields += [b"%d" % size] if headers is None else [b"%d" % len(headers), b"%d" % size]
    return b" ".join(fields) + b"\r\n" + (headers or b"") + payload + b"\r\n"


def pieces(stream: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """The stream in pieces that end at these positions."""
    bounds = [0, *sorted(cuts), len(stream)]
    return (stream[begin:end] for begin, end in pairwise(bounds))


def cut(stream: Iterable[bytes], frames: FrameBuffer, *, lags: bool = False) -> list[Frame]:
    """Let it arrive piece by piece. Taken is what is ready, or, by one that lags, only when nothing more goes in."""
    taken = []
    for piece in stream:
        coming = memoryview(piece)
        while coming:
            space = frames.space[: len(coming)]
            assert len(space), "no space though all was taken"
            space[:] = coming[: len(space)]
            ready = frames.advance(len(space))
            coming = coming[len(space) :]
            if frames.full or (ready and not lags):
                taken += frames.take()
    return taken + frames.take()


def test_a_stream_may_end_anywhere_in_between() -> None:
    """Split in two at any position, a stream of each kind of frame gives the same frames."""
    stream = sent(EACH_KIND)
    for position in range(len(stream) + 1):
        assert cut([stream[:position], stream[position:]], FrameBuffer()) == EACH_KIND


def test_a_stream_may_come_byte_by_byte() -> None:
    """Frames are the same where each byte comes alone."""
    assert cut((bytes([byte]) for byte in sent(EACH_KIND)), FrameBuffer()) == EACH_KIND


@given(st.lists(messages | st.sampled_from(LINES), max_size=12), st.data(), st.booleans(), st.sampled_from([1, 70_000]))
def test_any_split_gives_the_same_frames(expected: list[Frame], data: st.DataObject, lags: bool, first: int) -> None:
    """Whatever the frames, the split, the buffer's first size, and whether who takes them keeps up."""
    stream = sent(expected)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    assert cut(pieces(stream, cuts), FrameBuffer(first), lags=lags) == expected


def test_a_message_is_ready_with_its_last_byte() -> None:
    """No one is woken for a part of a message whose size is known, and nothing of it is handed out."""
    stream = sent([(1, b"a", b"", b"x" * 500_000, HEADERS)])
    frames = FrameBuffer()
    assert cut([stream[:100]], frames) == []
    for piece in pieces(stream[100:-1], range(0, 500_000, 60_000)):
        frames.space[: len(piece)] = piece
        assert not frames.advance(len(piece))
    assert cut([stream[-1:]], frames) == [(1, b"a", b"", b"x" * 500_000, HEADERS)]


def test_the_buffer_is_bounded_by_the_largest_message() -> None:
    """However many messages come through, and in pieces of whatever size, there is never room for more than two."""
    frames = FrameBuffer()
    stream = sent([(1, b"a", b"", b"x" * 520_000, None)] * 30)
    for piece in pieces(stream, range(0, len(stream), 99_991)):
        cut([piece], frames)
        assert len(frames.space) <= 2 * 520_100


@pytest.mark.parametrize(
    "malformed",
    [
        b"HMSG a 1 30 20\r\n" + b"x" * 20 + b"\r\n",
        b"MSG a 1 3\r\nabcdef\r\n",
        b"MSG a 1 3\r\nabc\n\r\n",
        b"x" * MAX_LINE_BYTES,
        b"MSG a 1" + b" " * MAX_LINE_BYTES,
    ],
    ids=["headers longer than both", "payload longer than said", "no line end", "endless line", "endless MSG"],
)
def test_what_cannot_be_cut_is_a_protocol_error(malformed: bytes) -> None:
    """It is no frame, and nothing is waited for that would never come."""
    with pytest.raises(ProtocolError):
        cut([malformed], FrameBuffer())


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"garbage\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 100000000\r\n",
        b"MSG a one 5\r\n",
        b"MSG a 1 r s 5\r\n",
        b"HMSG a 1 5\r\n",
        b"msg a 1 5\r\n",
        b"garbage" + b"x" * 5_000 + b"\r\n",
    ],
)
async def test_an_unknown_line_is_a_protocol_error(line: bytes) -> None:
    """The client is reported, and connects anew; nothing of it is left to be taken for the begin of what comes next."""
    assert cut([line], FrameBuffer()) == [line]
    with pytest.raises(ProtocolError):
        await FrameParser(Client()).parse([line])


async def test_messages_go_to_the_client_and_lines_to_its_parser() -> None:
    """A message is counted, a line that is known is taken, and one that is not ends it."""
    client = Client()
    parser = FrameParser(client)
    await parser.parse([(1, b"a", b"", b"xyz", None), b"+OK\r\n", (1, b"a", b"", b"", HEADERS)])
    assert (client.stats["in_msgs"], client.stats["in_bytes"]) == (2, 3)
    with pytest.raises(ProtocolError):
        await parser.parse([b"+OK\r\n", b"+WHAT\r\n"])


def test_fields_may_stand_further_apart() -> None:
    """As a server writes them that names no reply: two blanks, or tabs."""
    assert cut([b"MSG a.b 1  0\r\n\r\nHMSG\ta\t1  2 5\r\n\r\nabc\r\n"], FrameBuffer()) == [
        (1, b"a.b", b"", b"", None),
        (1, b"a", b"", b"abc", b"\r\n"),
    ]


def test_nats_py_has_the_names_that_frames_stand_on() -> None:
    """Private names of nats-py: another version of it may rename them, and would then receive in its own way."""
    client = Client()
    assert vars(client).keys() >= {"_transport", "_ps"}
    assert vars(client._ps).keys() >= {"nc", "buf", "state"}
    assert list(inspect.signature(Client._process_msg).parameters) == [
        *("self", "sid", "subject", "reply", "data", "headers"),
    ]
