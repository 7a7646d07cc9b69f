"""Receiving from a real NATS by frames: large messages, TLS, servers and lines that break, and who does not read."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import OutboundBufferLimitError

from core import jetstream
from core.frames import FIRST_BYTES, Connection, FrameParser, FrameTransport, receive_frames
from ops.local import Supervisor
from ops.local.nats import Nats
from ops.local.ports import LOOPBACK, free_port
from tests.support.proxy import FROM_SERVER, proxy
from tests.support.stack import FreshNats
from tests.support.tools import require_tool
from tests.support.waiting import eventually

HEADERS = {"Sluice-Events": "2000", "Name": "value"}
SIZES = [0, 1, 4_096, 65_535, FIRST_BYTES, 520_000, 1_048_576]  # the last is the server's max_payload

OnLoop = Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> OnLoop:
    """Runs a coroutine on a loop of this kind, in a thread: that of the servers goes on."""

    def run(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(work)

    return lambda work: asyncio.to_thread(run, work)


def drawn(size: int) -> bytes:
    return Random(size).randbytes(size)


async def received(client: Client) -> asyncio.Queue[Msg]:
    """What comes for "x", once the server knows that it is wanted."""
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe("x", cb=arrived.put, pending_msgs_limit=0, pending_bytes_limit=0)
    await client.flush()
    return arrived


async def messages_of_all_sizes(url: str, **options: Any) -> None:
    client = await jetstream.connect(url, name="tests", **options)
    arrived = await received(client)
    for _ in range(3):
        for size in SIZES:
            await client.publish("x", drawn(size))
        for size in SIZES[:-1]:
            await client.publish("x", drawn(size), headers=HEADERS)
        for size in SIZES:
            message = await arrived.get()
            assert (message.data, message.headers) == (drawn(size), None)
        for size in SIZES[:-1]:
            message = await arrived.get()
            assert (message.data, message.headers) == (drawn(size), HEADERS)
    await client.close()


async def test_a_connected_client_receives_by_frames(fresh_nats: FreshNats) -> None:
    """nats-py keeps the transport and the parser that it was given before it connected."""
    client = await jetstream.connect(fresh_nats.url, name="tests")
    assert (type(client._transport), type(client._ps)) == (FrameTransport, FrameParser)
    await client.close()


async def test_messages_of_all_sizes(fresh_nats: FreshNats, on_loop: OnLoop) -> None:
    """Up to what the server allows, with headers and without, each arrives unchanged and in order."""
    await on_loop(messages_of_all_sizes(fresh_nats.url))


async def test_messages_of_all_sizes_over_tls(encrypted: tuple[Nats, Path], on_loop: OnLoop) -> None:
    """The same where the server demands TLS."""
    server, certificate = encrypted
    await on_loop(messages_of_all_sizes(server.url, tls=ssl.create_default_context(cafile=certificate)))


async def test_a_certificate_of_no_one_known(encrypted: tuple[Nats, Path], on_loop: OnLoop) -> None:
    """A client that does not trust the server's certificate is reported so, and goes on trying as for a server away."""
    server, _ = encrypted
    trusting_no_one = ssl.create_default_context()

    async def rejects() -> None:
        reported: asyncio.Queue[Exception] = asyncio.Queue()
        client = Client()
        receive_frames(client)
        connecting = asyncio.create_task(
            client.connect(server.url, tls=trusting_no_one, error_cb=reported.put, reconnect_time_wait=0)
        )
        for _ in range(3):
            assert isinstance(await reported.get(), ssl.SSLCertVerificationError)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)

    await on_loop(rejects())


@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_the_line_breaks_within_a_message(fresh_nats: FreshNats, how: str) -> None:
    """The part of it is never handed out; the client connects anew, and the next message is whole."""
    async with proxy(fresh_nats.server.port) as line:
        direct = await jetstream.connect(fresh_nats.url, name="tests")
        client = await jetstream.connect(
            fresh_nats.url.replace(str(fresh_nats.server.port), str(line.port)), name="tests"
        )
        arrived = await received(client)
        before = line.carried[FROM_SERVER]
        line.bytes_per_second = 4e6
        await direct.publish("x", drawn(1_000_000))
        await eventually(lambda: _true(line.carried[FROM_SERVER] > before + 300_000), what="a part arrived", every=0.01)
        getattr(line, how)()
        await eventually(lambda: _true(client.stats["reconnects"] == 1), what="the client connected anew")
        line.bytes_per_second = 0
        await direct.publish("x", drawn(999_999))
        assert (await arrived.get()).data == drawn(999_999)
        assert arrived.empty()
        await client.close()
        await direct.close()


async def test_the_server_is_killed_while_messages_flow(fresh_nats: FreshNats, on_loop: OnLoop) -> None:
    """Killed and started again: the client is back on a new connection, and each message that arrives is whole."""
    servers = asyncio.get_running_loop()
    content = drawn(700_000)

    async def kill_and_restart() -> None:
        pid = fresh_nats.supervisor.kill("nats", signal.SIGKILL)
        await fresh_nats.supervisor.wait_ready("nats", after=pid)

    async def flows() -> None:
        client = await jetstream.connect(fresh_nats.url, name="tests")
        sender = await jetstream.connect(fresh_nats.url, name="sender")
        arrived = await received(client)

        async def send() -> None:
            while True:
                with contextlib.suppress(OutboundBufferLimitError):  # while the server is away
                    await sender.publish("x", content, headers=HEADERS)
                await asyncio.sleep(0.01)  # a rate, not a wait

        sending = asyncio.create_task(send())
        for round_ in range(1, 3):
            for _ in range(5):
                assert (await arrived.get()).data == content
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(kill_and_restart(), servers))

            async def is_back(now: int = round_) -> bool:
                return bool(client.stats["reconnects"] == now)

            await eventually(is_back, what="the client is back")
            while not arrived.empty():
                assert arrived.get_nowait().data == content
        assert (await arrived.get()).data == content
        sending.cancel()
        await client.close()
        await sender.close()

    await on_loop(flows())


async def test_a_line_that_died_with_words_on_it(fresh_nats: FreshNats, on_loop: OnLoop) -> None:
    """What can be delivered to no one does not hold up a reconnect to another server."""
    async with proxy(fresh_nats.server.port) as dead, proxy(fresh_nats.server.port) as alive:
        urls = ",".join(fresh_nats.url.replace(str(fresh_nats.server.port), str(line.port)) for line in (dead, alive))

        async def leaves() -> None:
            client = await jetstream.connect(urls, name="tests", dont_randomize=True, pending_size=64 << 20)
            dead.half_open()
            for _ in range(32):
                await client.publish("y", drawn(1_000_000))
            await eventually(lambda: _true(client.pending_data_size == 0), what="all is written to the line")
            await client.force_reconnect()
            await eventually(lambda: _true(client.stats["reconnects"] == 1), what="the client connected anew")
            await client.flush()
            await client.close()

        await on_loop(leaves())


@pytest.mark.parametrize("size", [100_000, 2 * FIRST_BYTES])
async def test_who_does_not_read_is_not_sent_to(size: int, on_loop: OnLoop) -> None:
    """While no one reads, the buffer fills up and the socket stands still; read, everything arrives that was sent.

    Also where the buffer is full of a part of one message.
    """
    message = b"MSG x 1 %d\r\n%b\r\n" % (size, b"x" * size)
    count = 100_000_000 // size

    async def stands_still() -> None:
        async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _number in range(count):
                writer.write(message)
                await writer.drain()
            writer.close()

        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(send, LOOPBACK, port := free_port()):
            transport, connection = await loop.create_connection(Connection, LOOPBACK, port)
            await eventually(lambda: _true(not transport.is_reading()), what="reading is paused")
            frames = []
            while not connection.at_eof():
                got = await connection.read()
                assert len(got) * len(message) <= max(FIRST_BYTES, 2 * len(message))
                frames += got
            assert frames == [(1, b"x", b"", b"x" * size, None)] * count
            await connection.closed.wait()

    await on_loop(stands_still())


@pytest.mark.parametrize("said", [b"garbage\r\n", b"x" * 100_000, b"MSG x 1 3\r\nabcdef\r\n"])
async def test_what_no_one_understands_ends_the_connection(said: bytes, on_loop: OnLoop) -> None:
    """A server that says what is no NATS is left, and connected to again: no one waits for the end of it."""

    async def leaves() -> None:
        connections = 0

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            writer.write(b'INFO {"max_payload":1048576}\r\n')
            async for line in reader:
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n" + said)
            writer.close()

        async with await asyncio.start_server(speak, LOOPBACK, port := free_port()):
            client = Client()
            receive_frames(client)
            await client.connect(f"nats://{LOOPBACK}:{port}", reconnect_time_wait=0)
            await eventually(lambda: _true(connections >= 3), what="the client connected again, twice")
            with contextlib.suppress(
                ConnectionResetError
            ):  # nats-py's, where it has words for a connection that it left
                await client.close()

    await on_loop(leaves())


async def _true(condition: bool) -> bool:
    return condition


@pytest.fixture
async def encrypted(tmp_path: Path) -> AsyncIterator[tuple[Nats, Path]]:
    """A server that demands TLS, and its own certificate."""
    async with _encrypted(tmp_path) as server:
        yield server, tmp_path / "certificate"


@asynccontextmanager
async def _encrypted(folder: Path) -> AsyncIterator[Nats]:
    certificate, key = str(folder / "certificate"), str(folder / "key")
    making = await asyncio.create_subprocess_exec(
        *(require_tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{LOOPBACK}"),
        *("-keyout", key, "-out", certificate),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    server = Nats(folder, free_port(), free_port())
    program = server.program()
    tls = ["--tls", "--tlscert", certificate, "--tlskey", key]
    async with Supervisor(folder) as supervisor:
        await supervisor.start(dataclasses.replace(program, argv=[*program.argv, *tls]))
        yield server
