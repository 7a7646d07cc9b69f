"""Post bodies over HTTP/1.1 with little CPU: plain streams, keep-alive connections.

Invariant: one call is one attempt, and never raises for errors of the server or the network. A connection is reused
only after a complete response to a completely sent request.
"""

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

IDLE_SECONDS = 4.0  # servers close idle connections, commonly after 5 s


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to one POST. Without a response, status is None and failure is the reason."""

    status: int | None
    payload: bytes
    seconds: float  # from the first byte sent to the last byte received
    failure: str | None = None

    def counts(self) -> tuple[int, int] | None:
        """Return (accepted, rejected) if the response contains them, otherwise None."""
        try:
            document = orjson.loads(self.payload)
            return int(document["accepted"]), int(document["rejected"])
        except (ValueError, KeyError, TypeError):
            return None


class Poster:
    """Posts JSON to one endpoint. Raises ValueError for an endpoint that is not an http or https URL."""

    def __init__(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError(f"not an http or https URL: {endpoint!r}")
        self._tls = url.scheme == "https"
        self._address = (url.hostname, url.port or (443 if self._tls else 80))
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._head = (
            f"POST {target} HTTP/1.1\r\nHost: {url.netloc.rpartition('@')[2]}\r\n"
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
        )
        self._idle: list[tuple[float, StreamReader, StreamWriter]] = []

    async def post(self, content: bytes) -> Answer:
        """Post once. Reads while sending: a server may reject a body before it has read it."""
        started = time.perf_counter()
        try:
            reader, writer = await self._connection()
            try:
                writer.write(self._head.format(len(content)).encode())
                writer.write(content)
                status, payload, keep = await _read_answer(reader)
            except BaseException:
                writer.transport.abort()
                raise
        except (OSError, EOFError, ValueError) as failure:
            reason = f"{type(failure).__name__}: {failure}"
            return Answer(None, b"", time.perf_counter() - started, reason)
        if keep and writer.transport.get_write_buffer_size() == 0:
            self._idle.append((time.monotonic(), reader, writer))
        else:
            writer.transport.abort()
        return Answer(status, payload, time.perf_counter() - started)

    async def _connection(self) -> tuple[StreamReader, StreamWriter]:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.transport.abort()
        return await asyncio.open_connection(*self._address, ssl=self._tls or None)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[2].transport.abort()


async def _read_answer(reader: StreamReader) -> tuple[int, bytes, bool]:
    """Return status, payload and whether the connection stays open. Raises ValueError if the response is not HTTP."""
    status, headers = await _read_head(reader)
    while status < 200:
        status, headers = await _read_head(reader)
    keep = headers.get("connection", "").lower() != "close"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return status, await _read_chunks(reader), keep
    if "content-length" in headers:
        return status, await reader.readexactly(int(headers["content-length"])), keep
    if status == 204:
        return status, b"", keep
    return status, await reader.read(), False


async def _read_head(reader: StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1."):
        raise ValueError(f"not an HTTP response: {first[:40]!r}")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _read_chunks(reader: StreamReader) -> bytes:
    payload = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        payload += (await reader.readexactly(size + 2))[:-2]
    while (await reader.readline()).strip():
        pass  # trailers
    return payload
