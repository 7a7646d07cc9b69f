"""Trace what NATS asks of the kernel, and check that nothing is confirmed before it is on disk.

    message --pwrite--> block file --fsync--> disk --write--> PubAck

strace reports each system call as it begins and ends. A record of a block file names its message's number in the
stream, and so does a PubAck.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.tools import require, require_tool

CALLS: Final = "write,writev,pwrite64,pwritev,fsync,fdatasync"
LONGEST_BYTES: Final = 1 << 20
_LINE: Final = re.compile(
    r"(?P<thread>\d+) +"
    r"(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\((?P<args>.*?)(?P<unfinished> <unfinished \.\.\.>)?$)"
)
_PATH: Final = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_BLOCK: Final = re.compile(r"/streams/(\w+)/msgs/\d+\.blk$")
_PUBACK: Final = re.compile(rb'\{"stream":"(\w+)",\s*"seq":(\d+)')
_RECORD: Final = struct.Struct("<IQ")  # of a block file: its length (the highest bit means headers), its number


class Message(NamedTuple):
    """What a PubAck is for."""

    stream: str
    sequence: int


@dataclass(slots=True)
class Call:
    """One system call; `began` and `ended` are lines of the trace."""

    name: str
    path: str
    data: bytes
    began: int
    ended: int = 1 << 62


@dataclass
class Trace:
    """What was traced, once it has ended."""

    file: Path
    calls: list[Call] = field(default_factory=list)

    def confirmed(self) -> dict[Message, Call]:
        """The first PubAck of each message."""
        found: dict[Message, Call] = {}
        for call in self.calls:
            if call.name.startswith("write") and not _BLOCK.search(call.path):
                for stream, sequence in _PUBACK.findall(call.data):
                    found.setdefault(Message(stream.decode(), int(sequence)), call)
        return found

    def confirmed_too_early(self) -> list[str]:
        """Messages that were confirmed before a sync of their block file had ended that began after their write."""
        written = {message: call for call in self.calls for message in _records(call)}
        found = []
        for message, puback in self.confirmed().items():
            write = written.get(message)
            if write is None:
                found.append(f"{message} was confirmed and never written")
            elif not any(
                sync.name in ("fsync", "fdatasync")
                and sync.path == write.path
                and write.ended < sync.began
                and sync.ended < puback.began
                for sync in self.calls
            ):
                found.append(f"{message} was written and confirmed, and not synced between")
        return found


@contextlib.asynccontextmanager
async def traced(pid: int, file: Path) -> AsyncIterator[Trace]:
    """Trace a process while the block lasts. Needs strace and the right to use it."""
    strace = await asyncio.create_subprocess_exec(
        *(require_tool("strace"), "--follow-forks", "--decode-fds=path", "--strings-in-hex=all"),
        *(f"--string-limit={LONGEST_BYTES}", f"--trace={CALLS}", f"--output={file}", f"--attach={pid}"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert strace.stderr is not None
    try:
        reported = (await strace.stderr.readline()).decode()
        require("attached" in reported, f"the right to trace a process ({reported.strip()})")
        trace = Trace(file)
        yield trace
    finally:
        with contextlib.suppress(ProcessLookupError):
            strace.terminate()
        await strace.wait()
    trace.calls = list(_calls(file))


def _calls(file: Path) -> Iterator[Call]:
    pending: dict[str, Call] = {}
    with file.open() as lines:
        for number, line in enumerate(lines):
            if (found := _LINE.match(line.rstrip("\n"))) is None:
                continue
            if found["resumed"]:
                if call := pending.pop(found["thread"], None):
                    call.ended = number
                continue
            path = _PATH.match(found["args"])
            data = b"".join(map(_unhex, _TEXT.findall(found["args"])))
            call = Call(found["name"], _unhex(path[1]).decode() if path else "", data, number)
            if found["unfinished"]:
                pending[found["thread"]] = call
            else:
                call.ended = number
            yield call


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _records(call: Call) -> Iterator[Message]:
    """The messages that a write puts into a block file."""
    block = _BLOCK.search(call.path)
    at = 0
    while block and at + _RECORD.size <= len(call.data):
        length, sequence = _RECORD.unpack_from(call.data, at)
        yield Message(block[1], sequence & (1 << 62) - 1)
        at += length & (1 << 30) - 1
