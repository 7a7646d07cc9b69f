"""Change bytes at random: what a message may hold when a sender, a bug or an attacker wrote it.

`Mutator.message` gives whole messages. About half of their lines are valid, most others near it, because what is far
from an event is rejected at its first byte and tries nothing. The same seed gives the same messages.
"""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from bench.publisher.events import RandomValues, make
from core.events import wire
from tests.support.events import encoded, rfc3339

CORPUS = Path(__file__).parent / "corpus"
RECEIVED = datetime(2026, 11, 22, 12, tzinfo=UTC)
"""When the messages were received, mostly: the events of the corpus are of that day."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_VALUE = re.compile(rb'(?<=:)(?:"(?:[^"\\]|\\.)*"|[-+0-9.eE]+|true|false|null)')
_MEMBER = re.compile(rb'"(?:[^"\\]|\\.)*":(?:"(?:[^"\\]|\\.)*"|[-+0-9.eE]+|true|false|null|\{[^{}]*\})')
_INSTANTS = [
    RECEIVED + timedelta(hours=hours, microseconds=more)
    for hours in (-168, -24, -12, -11, 0, 1)
    for more in (-1, 0, 1, 541_000)
]
_ZONES = (
    "Z",
    "+00:00",
    "-00:00",
    "+23:59",
    "-23:59",
    "+0000",
    "-0330",
    "+00",
    "-23",
    "+24",
    "+0060",
    "+1",
    "+01:0",
    "",
)
_SPECIAL = b'"\\{}[],:0123456789.eE+-tfn \t\r\x00\x1f\x7f\x80\xc3\xa9\xe2\x82\xac\xed\xa0\x80\xf0\x9f\x98\x80\xff/ubZz'


def corpus(*names: str) -> list[bytes]:
    """The lines of the corpus, or of these files of it."""
    files = [CORPUS / name for name in names] or sorted(CORPUS.iterdir())
    return [line for file in files for line in file.read_bytes().removesuffix(b"\n").split(b"\n")]


class Mutator:
    """A stream of messages that never ends, from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._fresh = RandomValues(self._random, lambda: self._random.choice(_INSTANTS).timestamp())
        self._values = corpus("values.txt")
        self._lines = corpus()

    def message(self, source: str, most_lines: int = 8) -> bytes:
        """One message for this source, mostly with a header that adds up."""
        lines = [self.line(source) for _ in range(self._random.randrange(most_lines + 1))]
        parts: list[wire.Part] = []
        left = len(lines)
        while left or (not parts and self._random.random() < 0.9):
            events = self._random.randint(0, left) if self._random.random() < 0.3 else left
            received = self._random.choice(_INSTANTS) if self._random.random() < 0.1 else RECEIVED
            parts.append(wire.Part(self._random.choice(("", "request-1", "é😀")), None, rfc3339(received), events))
            left -= events
        message = wire.encode(parts, lines)
        return self._bytes(message) if self._random.random() < 0.05 else message

    def line(self, source: str) -> bytes:
        """One line: an event, mostly of this source, mutated more or less."""
        if self._random.random() < 0.1:
            line = self._random.choice(self._lines)
        else:
            event = make(self._random, self._fresh)
            while event["source"] != source and self._random.random() < 0.99:
                event = make(self._random, self._fresh)
            line = encoded(event)
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 5))):
            line = self._random.choice(self._mutations)(self, line)
        return line.replace(b"\n", b" ")

    def _value(self, line: bytes) -> bytes:
        """Another value, from the corpus of values or from the line itself."""
        values = self._values if self._random.random() < 0.7 else _VALUE.findall(line) or [b"0"]
        return self._replaced(line, _VALUE, lambda _: self._random.choice(values))

    def _bent(self, line: bytes) -> bytes:
        """A value with a few bytes changed."""
        return self._replaced(line, _VALUE, self._bytes)

    def _text(self, line: bytes) -> bytes:
        """A text or a key that is written otherwise, or with more in it."""
        more: tuple[bytes, ...] = (b"", b"\\u00e9", b"\\ud83d\\ude00", b"\xc3\xa9", b"\\n", b"\xf0\x9f\x98\x80")
        if self._random.random() < 0.3:
            more = (b"\\u0000", b"\\ud800", b"\xff", b"x" * 180, b"y" * 8_150)

        def written(text: bytes) -> bytes:
            inner = bytearray()
            for byte in text[1:-1]:
                escape = self._random.random() < 0.1 and 0x20 <= byte < 0x7F and byte != 0x5C
                inner += b"\\u%04x" % byte if escape else bytes([byte])
            at = self._random.randint(0, len(inner))
            return b'"%b"' % bytes(inner[:at] + self._random.choice(more) + inner[at:])

        return self._replaced(line, _STRING, written)

    def _member(self, line: bytes) -> bytes:
        """A key with its value that is gone, stands twice, or stands elsewhere."""
        members = _MEMBER.findall(line)
        if not members:
            return line
        member = self._random.choice(members)
        if self._random.random() < 0.7:
            line = line.replace(member + b",", b"", 1).replace(b"," + member, b"", 1)
        at = self._random.choice([found.end() for found in re.finditer(rb"[{,]", line)] or [0])
        return line[:at] + member + b"," + line[at:] if self._random.random() < 0.8 else line

    def _added(self, line: bytes) -> bytes:
        """A key that the contract does not know."""
        at = self._random.choice([found.end() for found in re.finditer(rb"\{", line)] or [0])
        key = self._random.choice((b'"added"', b'"source "', b'"\\u0065ventId"', b'"\xff"', b'""', b"added"))
        return line[:at] + key + b":" + self._random.choice(self._values) + b"," + line[at:]

    def _spaced(self, line: bytes) -> bytes:
        """White space, or what looks like it."""
        spaces = (b" ", b"\t", b"\r", b"  \t \r ", b"\x0b", b"\xc2\xa0", b"\x00", b"\xef\xbb\xbf")
        space = self._random.choice(spaces[:4] if self._random.random() < 0.7 else spaces)
        return self._replaced(line, re.compile(rb"[{}:,]"), lambda sign: space + sign + space)

    def _cut(self, line: bytes) -> bytes:
        """A line that ends early."""
        return line[: self._random.randint(0, len(line))]

    def _spliced(self, line: bytes) -> bytes:
        """The beginning of one line and the end of another."""
        other = self._random.choice(self._lines)
        return self._cut(line) + other[self._random.randint(0, len(other)) :]

    def _nested(self, line: bytes) -> bytes:
        """A value inside many lists or objects."""
        depth = self._random.choice((1, 60, 62, 63, 64, 65, 66, 70, 300))
        row_prefix, row_suffix = self._random.choice(((b"[", b"]"), (b'{"a":', b"}")))
        return self._replaced(line, _VALUE, lambda value: row_prefix * depth + value + row_suffix * depth)

    def _bytes(self, line: bytes) -> bytes:
        """A few bytes changed, put in, taken out or repeated."""
        changed = bytearray(line)
        for _ in range(self._random.choice((1, 1, 1, 2, 4))):
            at = self._random.randint(0, len(changed))
            match self._random.randrange(4):
                case 0:
                    changed[at : at + 1] = bytes([self._random.choice(_SPECIAL)])
                case 1:
                    changed[at:at] = bytes([self._random.randrange(256)])
                case 2:
                    del changed[at : at + self._random.choice((1, 1, 2, 8))]
                case _:
                    changed[at:at] = changed[at : at + self._random.choice((1, 4, 16))]
        return bytes(changed)

    def _instant(self, line: bytes) -> bytes:
        """An instant that is written in another way, or near a limit."""
        moment = self._random.choice(_INSTANTS)
        text = self._random.choice(
            (
                rfc3339(moment),
                rfc3339(moment).lower(),
                rfc3339(moment + timedelta(hours=1)),
                moment.astimezone().isoformat(),
                f"{moment:%Y-%m-%dT%H:%M:%S}" + self._random.choice(_ZONES),
                f"{moment:%Y-%m-%dT%H:%M:%S}.{self._random.randrange(10 ** self._random.randint(1, 10))}"
                + self._random.choice(_ZONES),
                f"{self._random.randint(1990, 2110)}-{self._random.randint(0, 13):02}-{self._random.randint(0, 32):02}"
                f"T{self._random.randint(0, 25):02}:00:00Z",
            )
        )
        instants = re.compile(rb'"[0-9]{4}-[0-9]{2}-[^"]*"')
        return self._replaced(line, instants, lambda _: json.dumps(text).encode())

    _mutations = (_value, _value, _bent, _text, _member, _added, _spaced, _cut, _spliced, _nested, _bytes, _instant)

    def _replaced(self, line: bytes, pattern: re.Pattern[bytes], change: Callable[[bytes], bytes]) -> bytes:
        """The line with one of the pattern's places changed."""
        places: Sequence[re.Match[bytes]] = list(pattern.finditer(line))
        if not places:
            return line
        place = self._random.choice(places)
        return line[: place.start()] + change(place[0]) + line[place.end() :]
