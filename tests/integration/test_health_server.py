"""The health port: it answers whatever other clients do, and every answer is HTTP as it should be."""

from __future__ import annotations

import gc
import http.client
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from core import health_server
from core.health import LIVE, Readiness

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 10.0


@pytest.fixture
def readiness() -> Readiness:
    return Readiness("nats")


@pytest.fixture
def port(readiness: Readiness) -> Iterator[int]:
    """The port of a server in this process."""
    port, stop = health_server.serve(LOOPBACK, 0, readiness)
    yield port
    stop()


def ask(port: int, path: str = "/health/live", method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Status, header and body of one answer."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def raw(port: int, *parts: bytes) -> bytes:
    """All bytes that the server sends for these, up to its end of the connection."""
    with socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS) as client:
        for part in parts:
            client.sendall(part)
        return b"".join(iter(lambda: client.recv(65536), b""))


def is_open(client: socket.socket) -> bool:
    """Whether the server still keeps this idle connection."""
    client.setblocking(False)
    try:
        return bool(client.recv(1))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_idle_connections_do_not_keep_a_health_check_out(port: int) -> None:
    """However many clients connect and say nothing, the next one gets its answer; the oldest are cut off."""
    with ExitStack() as opened:
        idle = [
            opened.enter_context(socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS))
            for _ in range(health_server.MAX_CONNECTIONS + 50)
        ]
        status, _, body = ask(port)
        assert (status, body) == (200, LIVE)
        assert is_open(idle[-1]), "the answer came while others were idle, not after they were cut off"
        assert not is_open(idle[0]), "connections are bounded"


def test_a_byte_now_and_then_does_not_hold_a_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for the whole header: a client that sends one byte after the other is cut off."""
    monkeypatch.setattr(health_server, "HEADER_SECONDS", 0.5)
    with socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS) as client:
        client.settimeout(0.05)
        started = time.monotonic()
        for byte in itertools.chain(b"GET /health/live HTTP/1.1\r\nX: ", itertools.repeat(ord("a"))):
            assert time.monotonic() < started + PATIENCE_SECONDS, "it is still connected"
            try:
                client.send(bytes([byte]))
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                break
        assert ask(port)[0] == 200


def test_a_slow_scrape_does_not_hold_up_health(port: int, gate: Callable[[], None]) -> None:
    """While figures are still being collected, /health/live answers."""
    with socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS) as scraper:
        scraper.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert ask(port)[0] == 200
        assert is_open(scraper)
        scraper.settimeout(PATIENCE_SECONDS)
        gate()
        assert scraper.recv(15) == b"HTTP/1.1 200 OK"


def test_it_stops_while_figures_are_collected(gate: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    """A stop waits for no scrape: the connection ends, and nothing is left that Python complains of."""
    port, stop = health_server.serve(LOOPBACK, 0, Readiness())
    with socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS) as scraper:
        scraper.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert ask(port)[0] == 200
        stop()
        assert not is_open(scraper)
    gate()
    gc.collect()
    assert not caplog.records
    with pytest.raises(ConnectionRefusedError):
        ask(port)


@pytest.fixture
def gate() -> Iterator[Callable[[], None]]:
    """A metric that waits until this is called."""
    opened = threading.Event()

    class PendingRequest(Collector):
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            opened.wait(PATIENCE_SECONDS)
            yield from ()

    waiting = PendingRequest()
    REGISTRY.register(waiting)
    yield opened.set
    opened.set()
    REGISTRY.unregister(waiting)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/nowhere"])
def test_head_is_get_without_its_body(port: int, path: str) -> None:
    """HEAD has the status and the header of GET, and no byte after them."""
    status, header, body = ask(port, path)
    answer = raw(port, b"HEAD %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"\r\n\r\n")
    assert header["Content-Type"].encode() in answer
    assert body, "GET has one"


def test_readiness_is_reported(port: int, readiness: Readiness) -> None:
    """503 with what is missing, then 200."""
    status, _, body = ask(port, "/health/ready")
    assert (status, body) == (503, b'{"status":"not ready","missing":{"nats":"starting"}}')
    readiness.set_ready("nats")
    assert ask(port, "/health/ready?verbose=1")[0] == 200


def test_a_client_may_close_its_side_first(port: int) -> None:
    """A client that sends its request and FIN together gets its answer and the end of the connection."""
    with socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /health/live HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345", b"405 Method Not Allowed"),
        (b"GET /health/live/ HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET nothing HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nX: " + 500_000 * b"a", b"431 Request Header Fields Too Large"),
    ],
)
def test_what_is_no_request_of_ours_is_rejected(port: int, request_: bytes, status: bytes) -> None:
    """Each wrong request has its status, which arrives although the client was still sending."""
    assert raw(port, request_).startswith(b"HTTP/1.1 " + status + b"\r\n")
