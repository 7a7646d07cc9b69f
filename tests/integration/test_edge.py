"""The edge: Debian's nginx with ops/edge/nginx.conf, in front of two gateways on one NATS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.publisher.post import Poster
from ops.local import Supervisor
from ops.local.edge import FOLDER, defaults
from ops.local.ports import LOOPBACK, free_port
from tests.support.edge import Edge, start_edge
from tests.support.events import encoded, facebook, tiktok
from tests.support.gateway import JSON, Gateway, start_gateway
from tests.support.processes import standing_still
from tests.support.stack import FreshNats, reachable_folder, start_nats
from tests.support.tools import require, require_tool
from tests.support.waiting import eventually, in_time

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
async def gateways(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways on one NATS."""
    folder, second = (Path(tmp_path_factory.mktemp(name)) for name in ("first", "second"))
    async with (
        start_nats(folder) as nats,
        Supervisor(second) as supervisor,
        start_gateway(nats) as one,
        start_gateway(FreshNats(nats.server, supervisor, second)) as other,
    ):
        yield one, other


@pytest.fixture(scope="module")
async def edge(gateways: tuple[Gateway, Gateway]) -> AsyncIterator[Edge]:
    """An edge before both. Bodies of 100,000 bytes are its largest."""
    ports = [gateway.port for gateway in gateways]
    async with start_edge(gateways[0].supervisor, ports, GATEWAY_MAX_BODY_BYTES="100000") as edge:
        yield edge


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    """Of an edge of a test's own."""
    async with Supervisor(tmp_path) as supervisor:
        yield supervisor


async def send(edge: Edge, body: bytes | None = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await edge.http.post(f"{edge.url}/events", content=body or encoded(facebook()), headers={**JSON, **named})


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of a megabyte, mounted there meanwhile."""
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "none", str(folder))
    require(subprocess.run(mount, check=False, capture_output=True).returncode == 0, "the right to mount")
    try:
        yield
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


def problem(answer: httpx.Response, status: int, name: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:sluice:problem:{name}"
    assert answer.json()["status"] == status
    assert answer.json()["correlationId"] == answer.headers["x-correlation-id"]
    assert answer.json()["title"]
    assert answer.json()["detail"]


def test_every_variable_of_the_edge_has_a_default() -> None:
    """edge.env names what the files of ops/edge are filled in with, and nothing else."""
    used = {name for file in FOLDER.glob("*.conf") for name in re.findall(r"\$\{([A-Z_]+)\}", file.read_text())}
    assert used == defaults().keys()


async def test_an_event_goes_through_under_one_correlation_id(edge: Edge) -> None:
    """The sender's correlation ID, else its trace's, else a new one, is the gateway's too."""
    reported: tuple[tuple[dict[str, Any], str | None], ...] = (
        ({"x_correlation_id": "c-1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, "c-1"),
        ({"x_correlation_id": "no good", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, TRACE),
        ({}, None),
    )
    for headers, expected in reported:
        answer = await send(edge, **headers)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        given = answer.json()["correlationId"]
        assert answer.headers["x-correlation-id"] == given
        assert given == expected or (expected is None and re.fullmatch("[0-9a-f]{32}", given))
        assert answer.headers["server"] == "nginx"


TYPES = {
    None: 202,
    "": 202,
    "application/json": 202,
    "Application/JSON; charset=utf-8": 202,
    "application/cloudevents+json": 202,
    "text/json": 202,
    "application/x-ndjson": 202,
    "application/ndjson": 202,
    "application/jsonl": 202,
    "application/x-jsonlines": 202,
    "application/json-seq": 202,
    "text/plain": 202,
    "text/plain;charset=UTF-8": 202,
    "application/octet-stream": 202,
    "application/x-www-form-urlencoded": 202,  # curl's default
    "application/json, text/html": 202,
    "application/gzip": 202,
    "Multipart/Mixed;boundary=application/json": 415,
    "image/png": 415,
    "audio/mpeg": 415,
    "video/mp4": 415,
    "font/woff2": 415,
    "model/gltf+json": 415,
    "message/http": 415,
}
PATHS = {
    "/events": 202,
    "/events/": 202,
    "//events": 202,
    "///events//": 202,
    "/./events": 202,
    "/a/../events": 202,
    "/%65vents": 202,
    "/events?source=crm": 202,
    "/events/?a=%ff": 202,
    "/event": 404,
    "/events/facebook": 404,
    "/Events": 404,
    "/events//x": 404,
    "/": 404,
    "//": 404,
}


async def post_raw(port: int, path: str, content_type: str | None) -> int:
    """POST an event in lines, without a header that is not named here; the status."""
    body = encoded(facebook()) + b"\n" + encoded(tiktok()) + b"\n"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    if content_type is not None:
        head += f"Content-Type: {content_type}\r\n"
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(head.encode() + b"\r\n" + body)
    answer = await in_time(reader.read())
    writer.close()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("gateway", ["gateway", "edge"])
@pytest.mark.parametrize(
    ("path", "content_type", "status"),
    [
        *(("/events", content_type, status) for content_type, status in TYPES.items()),
        *((path, "application/json", status) for path, status in PATHS.items()),
    ],
)
async def test_gateway_and_edge_take_the_same_requests(
    edge: Edge, gateways: tuple[Gateway, Gateway], gateway: str, path: str, content_type: str | None, status: int
) -> None:
    """Each path and each type has one status, whether a gateway or nginx is asked.

    Except `multipart/form-data` over another body: nginx answers 415, Robyn 500 (docs/workarounds.md).
    """
    port = edge.port if gateway == "edge" else gateways[0].port
    assert await post_raw(port, path, content_type) == status


async def test_a_rejected_type_is_explained(edge: Edge, gateways: tuple[Gateway, Gateway]) -> None:
    """415 of nginx and of a gateway say what to send."""
    for answer in (
        await send(edge, content_type="image/png"),
        await gateways[0].send(encoded(facebook()), content_type="image/png"),
    ):
        problem(answer, 415, "unsupported_type")
        assert "application/json" in answer.json()["detail"]


async def test_a_query_reaches_the_gateway(tmp_path: Path) -> None:
    """Meta's question whether the verify token is known is answered through nginx."""
    async with (
        start_nats(tmp_path) as nats,
        start_gateway(nats, GATEWAY_META_VERIFY_TOKEN="token") as gateway,
        start_edge(nats.supervisor, [gateway.port]) as edge,
    ):
        requested = {"hub.mode": "subscribe", "hub.verify_token": "token", "hub.challenge": "c-1"}
        answer = await edge.http.get(f"{edge.url}/events", params=requested)
        assert (answer.status_code, answer.text) == (200, "c-1")


async def test_what_is_public_and_what_is_not(edge: Edge) -> None:
    """POST /events, the health pages and the documentation; metrics, reports and other methods are not there."""
    for path in (
        "/metrics",
        "/",
        "/reports/events",
        "/docs/",
        "/docs/page.js",
        "/event",
        "/.problem",
        "/events/../metrics",
    ):
        problem(await edge.http.get(edge.url + path), 404, "unknown_path")
    for path in ("/docs", "/openapi.json", "/events.schema.json"):
        assert (await edge.http.get(edge.url + path)).status_code == 200
    for page in ("live", "ready"):
        assert (await edge.http.get(f"{edge.url}/health/{page}")).status_code == 200
    for path, allowed in (("/events", "POST"), ("/health/ready", "GET, HEAD"), ("/docs", "GET, HEAD")):
        answer = await edge.http.delete(edge.url + path)
        problem(answer, 405, "wrong_method")
        assert answer.headers["allow"] == allowed


async def test_a_body_where_none_belongs_is_not_passed_on(
    edge: Edge, gateways: tuple[Gateway, Gateway], supervisor: Supervisor
) -> None:
    """A health page reads none; Meta's GET with one goes where large bodies go, for a gateway reads it whole."""
    assert (await edge.http.request("GET", f"{edge.url}/health/live", content=b"x" * 1000)).status_code == 200
    problem(await edge.http.request("GET", f"{edge.url}/health/live", content=b"x" * 2000), 413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    no_one = f"server {LOOPBACK}:{free_port()};"
    async with start_edge(supervisor, [gateways[0].port], EDGE_GATEWAYS_LARGE=no_one) as other:
        requested = "/events?hub.mode=subscribe"
        assert (await other.http.get(other.url + requested)).status_code != 502
        for content in (b"x", chunks()):
            problem(await other.http.request("GET", other.url + requested, content=content), 502, "no_gateway")


async def test_large_bodies_of_one_sender_are_bounded(
    gateways: tuple[Gateway, Gateway], supervisor: Supervisor
) -> None:
    """While one of them is on its way another is 429, which says when to come again; small ones are taken as ever."""
    large = b"[" + b" " * 100_000 + encoded(facebook()) + b"]"
    async with start_edge(supervisor, [gateways[0].port], EDGE_LARGE_PER_SENDER="1") as edge:
        reader, writer = await asyncio.open_connection(LOOPBACK, edge.port)
        head = (
            f"POST /events HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\nContent-Length: {len(large)}\r\n"
        )
        writer.write(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")  # it waits for the body
        answer = await send(edge, large)
        problem(answer, 429, "too_many_requests")
        assert answer.headers["retry-after"] == "1"
        assert (await send(edge)).status_code == 202
        writer.write(large)
        assert b" 202 " in await reader.readuntil(b"\r\n")
        writer.close()
        assert (await send(edge, large)).status_code == 202


async def test_a_full_folder_is_reported_as_want_of_room(
    gateways: tuple[Gateway, Gateway], supervisor: Supervisor
) -> None:
    """A body that finds no room in the edge's folder is 503 with Retry-After; small ones need none."""
    with reachable_folder() as folder, small_disk(folder / "body"):
        async with start_edge(supervisor, [gateways[0].port], EDGE_FOLDER=str(folder)) as edge:
            answer = await send(edge, b"[" + b" " * 2_000_000 + encoded(facebook()) + b"]")
            problem(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert "nothing is stored" in answer.json()["detail"]
            assert (await send(edge)).status_code == 202


async def test_a_body_past_the_limit_is_rejected(edge: Edge) -> None:
    """413, by its announced length and by what came in chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 10_000

    problem(await send(edge, b" " * 100_001), 413, "too_large")
    problem(await edge.http.post(f"{edge.url}/events", content=chunks(), headers=JSON), 413, "too_large")


async def test_chunks_arrive_with_their_length(edge: Edge) -> None:
    """A body in chunks is whole, and plain, before a gateway sees it."""
    event = encoded(facebook())

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(event), 100):
            yield event[at : at + 100]

    answer = await edge.http.post(f"{edge.url}/events", content=chunks(), headers=JSON)
    assert answer.json()["accepted"] == 1


async def test_the_gateways_own_answers_pass(edge: Edge) -> None:
    """What a gateway says is passed on as it is: 400, 422, and who is rejected for what."""
    problem(await send(edge, b"nope"), 400, "not_json")
    answer = await send(edge, b"[{}]")
    problem(answer, 422, "nothing_accepted")
    assert answer.json()["errors"][0]["reason"] == "missing_field"


async def test_a_gateway_that_drains_costs_no_one_a_request(edge: Edge, gateways: tuple[Gateway, Gateway]) -> None:
    """While one of two gateways is stopped, and while it is gone, and while it is killed: every request is answered 202
    by one of them."""
    statuses: Counter[int | None] = Counter()
    stop = asyncio.Event()

    async def post() -> None:
        poster = Poster(f"{edge.url}/events")
        while not stop.is_set():
            statuses[(await poster.post(encoded(facebook()))).status] += 1
        poster.close()

    async def more() -> None:
        wanted = statuses.total() + 50

        async def enough() -> bool:
            return statuses.total() >= wanted

        await eventually(enough, what="50 more answers", seconds=60)

    posting = [asyncio.create_task(post()) for _ in range(4)]
    other = gateways[1].supervisor
    await more()
    await other.stop("gateway")
    await more()
    await other.start_again("gateway")
    await more()
    pid = other.kill("gateway", signal.SIGKILL)
    await more()
    await other.wait_ready("gateway", after=pid)
    await more()
    stop.set()
    await asyncio.gather(*posting)
    assert set(statuses) == {202}


async def test_no_gateway_at_all_is_reported_truthfully(tmp_path: Path) -> None:
    """503 of the only gateway is passed on with its words; where none is there, 502 says that a repeat is safe."""
    async with (
        start_nats(tmp_path) as nats,
        start_gateway(nats, GATEWAY_PUBLISH_TIMEOUT_SECONDS="0.5") as gateway,
        start_edge(nats.supervisor, [gateway.port, gateway.port], EDGE_REQUESTS_PER_SENDER="1") as edge,
    ):
        await nats.supervisor.stop("nats")
        answer = await send(edge)
        problem(answer, 503, "stream_unreachable")
        assert int(answer.headers["retry-after"]) >= 1
        pair = await asyncio.gather(send(edge), send(edge))
        (limited,) = [answer for answer in pair if answer.status_code == 429]
        problem(limited, 429, "too_many_requests")
        await nats.supervisor.stop("gateway")
        answer = await send(edge)
        problem(answer, 502, "no_gateway")
        assert "Send the whole request again" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        await nats.supervisor.start_again("nats")
        await nats.supervisor.start_again("gateway")


@pytest.mark.parametrize("body", [encoded(facebook()), b"[" + b" " * 100_000 + encoded(facebook()) + b"]"])
async def test_no_gateway_has_a_place(tmp_path: Path, body: bytes) -> None:
    """As many bodies of one size as a gateway may have wait for JetStream: one more is 503 at once, with a
    gateway's own word on when to come again. JetStream answers: all that waited are 202."""
    async with (
        start_nats(tmp_path) as nats,
        start_gateway(nats, GATEWAY_MAX_IN_FLIGHT_BYTES="1000000") as gateway,
        start_edge(nats.supervisor, [gateway.port], small_bodies=3, large_bodies=3) as edge,
    ):
        assert (await send(edge, body)).status_code == 202

        async def all_places_taken() -> bool:
            return await gateway.metric("gateway_requests_in_flight") == 3

        async with standing_still(nats.supervisor.pid("nats")):
            waiting = [asyncio.create_task(send(edge, body)) for _ in range(3)]
            await eventually(all_places_taken, what="all places are taken", seconds=10)
            for number in range(20):
                answer = await send(edge, body, x_correlation_id=f"c-{number}")
                problem(answer, 503, "overloaded")
                assert "nothing is stored" in answer.json()["detail"]
                assert answer.json()["correlationId"] == f"c-{number}"
                assert int(answer.headers["retry-after"]) >= 1

            async def reported_by_the_gateway() -> bool:
                return int((await send(edge, body)).headers["retry-after"]) > 2

            await eventually(
                reported_by_the_gateway, what="the longer nothing is answered, the later to come again", seconds=20
            )
            assert not any(task.done() for task in waiting)
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {202}
        assert (await send(edge, body)).status_code == 202


async def test_one_gateway_is_gone_and_the_other_has_no_place(tmp_path: Path) -> None:
    """Both tries, and both of the second attempt, find no gateway: 503 at once with `Retry-After`, never 502."""
    async with (
        start_nats(tmp_path) as nats,
        start_gateway(nats) as gateway,
        start_edge(nats.supervisor, [free_port(), gateway.port], small_bodies=1) as edge,
    ):
        assert {(await send(edge)).status_code for _ in range(4)} == {202}

        async def place_taken() -> bool:
            return await gateway.metric("gateway_requests_in_flight") == 1

        async with standing_still(nats.supervisor.pid("nats")):
            waiting = asyncio.create_task(send(edge))
            await eventually(place_taken, what="the only place is taken", seconds=10)
            for _ in range(10):
                answer = await send(edge)
                problem(answer, 503, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
        assert (await waiting).status_code == 202
        tries = [json.loads(line)["gateway"] for line in edge.log.read_text().splitlines() if '"status":503' in line]
        assert len(tries) == 10
        assert any(" : " in addresses for addresses in tries), "no request was tried again"


async def test_the_log_holds_no_address_no_query_and_no_payload(edge: Edge) -> None:
    """A line a request: JSON, with the correlation ID, and nothing that names a person or a secret."""
    await send(edge, b'[{"name":"No one Knows"}]', x_correlation_id="c-log")
    await edge.http.get(f"{edge.url}/events?hub.verify_token=hush")
    await edge.http.get(f"{edge.url}/elsewhere?hub.verify_token=hush")
    text = edge.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["correlation_id"] == "c-log"]
    assert (line["request"], line["status"], line["gateway_status"]) == ("POST /events", 422, "422")
    assert "GET /elsewhere" in {line["request"] for line in lines}
    for secret in ("hush", "No one", '"127.0.0.1"'):
        assert secret not in text


async def test_tls_and_reports_by_setting(gateways: tuple[Gateway, Gateway], tmp_path: Path) -> None:
    """With tls.conf and a certificate the gateway speaks TLS alone; with reports.conf the reporter is behind it."""
    openssl = require_tool("openssl")
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    making = await asyncio.create_subprocess_exec(
        openssl,
        *(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=localhost",
        ),
        *("-keyout", key, "-out", certificate),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    files: dict[str, Any] = {"EDGE_CERTIFICATE": str(certificate), "EDGE_CERTIFICATE_KEY": str(key)}
    async with start_edge(
        gateways[1].supervisor,
        [gateways[1].port],
        include=["tls.conf", "reports.conf", "metrics.conf"],
        tls=True,
        **files,
    ) as edge:
        async with httpx.AsyncClient(verify=False) as http:  # its own certificate
            answer = await http.post(f"{edge.url}/events", content=encoded(facebook()), headers=JSON)
            assert answer.status_code == 202
            problem(await http.get(f"{edge.url}/reports/events"), 502, "no_gateway")
            problem(await http.post(f"{edge.url}/reports/events"), 405, "wrong_method")
            assert "gateway_requests_total" in (await http.get(f"{edge.url}/metrics")).text
        plain = await edge.http.get(edge.url.replace("https", "http") + "/health/live")
        assert plain.status_code == 400
