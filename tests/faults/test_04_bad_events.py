"""Promise 4, at the gateway: whatever is posted, good events beside it are stored, and no process is lost to it.

Bare, a malformed chunk size costs one worker a restart, and slow or idle senders hold their connections. Behind the
edge none of that reaches a gateway.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import resource
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.publisher.post import Answer, Poster
from gateway.workers import FIRST_PAUSE_SECONDS
from ops.local.ports import LOOPBACK
from tests.support import tools
from tests.support.edge import Edge, start_edge
from tests.support.events import encoded, facebook, tiktok
from tests.support.faulty import LONG, FaultySystem
from tests.support.gateway import Gateway, start_gateway
from tests.support.json_corpus import DOCUMENTS, JSON, NOT_JSON, PERHAPS
from tests.support.stack import start_nats
from tests.support.tally import Tally
from tests.support.waiting import eventually, in_time

AT_ONCE = 16
MEBIBYTE = 1 << 20
HEAD = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BAD_CHUNK = HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, str]:
    return {"GATEWAY_WORKERS": "2"}


@pytest.fixture
async def gateway(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The file's gateway of two workers, with empty streams; its workers have to outlive the test."""
    await eventually(lambda: both(gateway), what="both workers run", seconds=30)
    before = [worker.pid for worker in gateway.workers()]
    yield gateway
    assert [worker.pid for worker in gateway.workers()] == before, "a worker ended"


async def post_all(url: str, bodies: Sequence[bytes]) -> list[Answer]:
    """Post all of these, several at a time; the answers in their order."""
    poster = Poster(f"{url}/events")
    places = asyncio.Semaphore(AT_ONCE)

    async def post(body: bytes) -> Answer:
        async with places:
            return await poster.post(body)

    try:
        return await asyncio.gather(*map(post, bodies))
    finally:
        poster.close()


def problems(answers: Iterable[Answer], *statuses: int) -> list[dict[str, object]]:
    """The answers' problem documents, each of one of these statuses."""
    found = []
    for answer in answers:
        document = json.loads(answer.payload)
        assert answer.status == document["status"] in statuses, (answer, statuses)
        assert document["type"].startswith("urn:sluice:problem:")
        found.append(document)
    return found


@pytest.mark.parametrize("kind", DOCUMENTS)
async def test_no_document_gets_through(gateway: Gateway, tally: Tally, kind: str) -> None:
    """Whatever is JSON, is not, or may be: 400 or 422, as a problem document; and nothing is published."""
    documents = DOCUMENTS[kind]
    tally.count(bad_inputs=len(documents))
    for document, reported in zip(documents, problems(await post_all(gateway.url, documents), 400, 422), strict=True):
        if kind == "json":
            assert reported["type"] != "urn:sluice:problem:not_json", document
            assert "malformed" not in str(reported.get("errors")), document
    assert await gateway.lines("facebook") == await gateway.lines("tiktok") == []


async def test_no_document_costs_the_event_beside_it(gateway: Gateway, tally: Tally) -> None:
    """A good event in the same array is accepted, unless an open quote or bracket leaves no array: then it is 400, and
    nothing of it is published."""
    hostile = random.Random(4).sample([*JSON, *NOT_JSON, *PERHAPS], 1200 if LONG else 300)
    tally.count(bad_inputs=len(hostile))
    good = [encoded(facebook()) for _ in hostile]
    answers = await post_all(gateway.url, [b"[%b,%b]" % pair for pair in zip(good, hostile, strict=True)])
    accepted = []
    for event, document, answer in zip(good, hostile, answers, strict=True):
        if answer.status == 202:
            accepted.append(event)
            reported = answer.counts()
            assert reported is not None and reported[0] == 1, document
        else:
            assert document in NOT_JSON, document
            problems([answer], 400)
    assert sorted(await gateway.lines("facebook")) == sorted(accepted)
    assert len(accepted) > len(hostile) * 0.9


def too_much() -> dict[str, tuple[bytes, dict[str, str], set[int]]]:
    """What is sent -> the body, its headers, the statuses that may come back; a good event stands in those of 202."""
    good, other = encoded(facebook()), encoded(tiktok())
    huge = other.replace(b'"followers":', b'"followers":1e200000,"x":')
    nul = other.replace(b"ttk-", b"\\u0000")
    packed = {"content_encoding": "gzip"}
    return {
        "depth 100,000": (b"[" + good + b"," + b"[" * 100_000 + b"]" * 100_000 + b"]", {}, {202}),
        "depth 100,000 of objects": (b"[" + good + b"," + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]", {}, {202}),
        "depth without end": (b"[" * 5_000_000, {}, {400}),
        "a million keys": (
            b"[" + good + b",{" + b",".join(b'"%d":0' % key for key in range(1_000_000)) + b"}]", {}, {202},
        ),
        "one key a million times": (b"[" + good + b",{" + b",".join([b'"a":0'] * 1_000_000) + b"}]", {}, {202}),
        "a string of 10 MB": (b"[" + good + b',"' + b"x" * 10_000_000 + b'"]', {}, {202}),
        "a string of 10 MB without end": (b"[" + good + b',"' + b"x" * 10_000_000, {}, {400}),
        "10 MB of backslashes": (b"[" + good + b',"' + b"\\" * 10_000_000 + b'"]', {}, {202}),
        "a number of 10 MB": (b"[" + good + b"," + b"9" * 10_000_000 + b"]", {}, {202}),
        "1e200000": (b"[" + good + b"," + huge + b"]", {}, {202}),
        "NUL in a text": (b"[" + good + b"," + nul + b"]", {}, {202}),
        "no UTF-8": (b"[" + good + b"," + other.replace(b"ttk-", b"\xff") + b"]", {}, {202}),
        "a million commas": (b"[" + b"," * 1_000_000 + b"]", {}, {413}),
        "10 MB of spaces": (b" " * 10_000_000, {}, {400}),
        "a gzip bomb within the limit": (gzip.compress(b" " * (64 * MEBIBYTE - 10), 9), packed, {400}),
        "a gzip bomb past the limit": (gzip.compress(b"[" + b" " * (64 * MEBIBYTE), 9), packed, {413}),
        "a thousand gzip members": (gzip.compress(b" " * MEBIBYTE, 9) * 1000, packed, {413}),
        "gzip members without end": (gzip.compress(b"") * 400_000, packed, {413}),
        "gzip in gzip": (gzip.compress(gzip.compress(b"[" + good + b"]")), packed, {400}),
        "gzip in gzip, ten times": (nested(b"[" + good + b"]", 10), packed, {400}),
        "gzip of half a body": (gzip.compress(b"[" + good * 1000)[:-20], packed, {400}),
    }  # fmt: skip


def nested(content: bytes, times: int) -> bytes:
    for _ in range(times):
        content = gzip.compress(content)
    return content


async def test_too_much_of_anything(gateway: Gateway, tally: Tally) -> None:
    """Depth, keys, lengths and bombs: each is answered for what it is, good events beside it are stored, memory is
    bounded."""
    expected = 0
    for name, (body, headers, statuses) in too_much().items():
        answer = await gateway.send(body, **headers)
        assert answer.status_code in statuses, (name, answer.status_code, answer.text[:300])
        if answer.status_code == 202:
            assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 1), name
            expected += 1
        tally.count(bad_inputs=1)
    assert len(await gateway.lines("facebook")) == expected
    tally.most(rss_bytes_max=sum(most_memory(worker.pid) for worker in gateway.workers()))


def most_memory(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


async def said(port: int, request: bytes, *, eof: bool = False) -> bytes:
    """What comes back for these bytes, until the connection closes or one answer is whole. After them we are silent,
    and with `eof` say so."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    answer = b""
    try:
        writer.write(request)
        await writer.drain()
        if eof:
            writer.write_eof()
        while not _is_whole(answer) and (more := await in_time(reader.read(65_536))):
            answer += more
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return answer


def _is_whole(answer: bytes) -> bool:
    head, ended, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    return bool(ended and length) and len(body) >= int(length[1])  # type: ignore[index]


# No whole request with a whole body stands in any of these.
MALFORMED = {
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n[]",
    "a length that is no number": HEAD + b"Content-Length: two\r\n\r\n[]",
    "a length past all numbers": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n[]",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
    "no HTTP": b"hello\r\n\r\n",
    "nothing but line breaks": b"\r\n" * 500,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "a header's name with a space": HEAD + b"a b: c\r\nContent-Length: 2\r\n\r\n[]",
    "NUL in a header": HEAD + b"a: b\0c\r\nContent-Length: 2\r\n\r\n[]",
    "a version that is none": HEAD.replace(b"1.1", b"9.9") + b"Content-Length: 2\r\n\r\n[]",
    "a header of 100 KB": HEAD + b"a: " + b"b" * 100_000 + b"\r\nContent-Length: 2\r\n\r\n[]",
    "ten thousand headers": HEAD + b"a: b\r\n" * 10_000 + b"Content-Length: 2\r\n\r\n[]",
    "an address of 100 KB": HEAD.replace(b"/events", b"/" + b"a" * 100_000) + b"Content-Length: 2\r\n\r\n[]",
}
# The edge leaves such a header out: the request is whole without it.
FIXED = {
    "a header without a colon": HEAD + b"nonsense\r\nContent-Length: 2\r\n\r\n[]",
}
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
BAD_CHUNKS = {
    "a chunk size that is no number": BAD_CHUNK,
    "a negative chunk size": CHUNKED + b"\r\n-1\r\n[]\r\n0\r\n\r\n",
    "a chunk size past all numbers": CHUNKED + b"\r\n" + b"f" * 40 + b"\r\n[]\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"\r\n1\r\n[]\r\n0\r\n\r\n",
    "chunks and a length": CHUNKED + b"Content-Length: 2\r\n\r\n[]",
}


async def test_malformed_http_bare(gateway: Gateway, tally: Tally) -> None:
    """A request that is no HTTP is answered 4xx or not at all: it takes no worker with it, and stores nothing."""
    for name, request in {**MALFORMED, **FIXED}.items():
        answer = await said(gateway.port, request, eof=True)
        assert not answer or answer.startswith(b"HTTP/1.1 4"), (name, answer[:200])
        tally.count(bad_inputs=1)
    assert (await gateway.post([facebook()])).status_code == 202
    assert len(await gateway.lines("facebook")) == 1


async def test_a_bad_chunk_costs_a_bare_worker_a_restart(tmp_path: Path, tally: Tally) -> None:
    """It aborts the worker: another one goes on, a spare replaces it without a pause, and the parent counts it. A slot
    whose worker dies again within 10 s waits, longer each time."""
    async with start_nats(tmp_path) as nats, start_gateway(nats, GATEWAY_WORKERS="2") as gateway:
        await eventually(lambda: both(gateway), what="both workers run", seconds=30)
        for restarts in range(1, 5):
            before = {worker.pid for worker in gateway.workers()}
            assert await said(gateway.port, BAD_CHUNK) == b""
            await eventually(lambda known=before: missing(gateway, known), what="a worker ended", seconds=30)  # type: ignore[misc]
            tally.count(bad_inputs=1)
            answers = await post_all(gateway.url, [encoded(facebook())] * 3)
            assert 202 in {answer.status for answer in answers}, "the other worker goes on"
            await eventually(lambda: both(gateway), what="both workers run", seconds=30)
            assert await gateway.metric("gateway_worker_restarts_total") == restarts
        pauses = defaultdict(list)
        for line in gateway.log().splitlines():
            if '"worker exited unexpectedly"' in line:
                reported = json.loads(line)
                pauses[reported["slot"]].append(reported["pause_seconds"])
        assert sum(map(len, pauses.values())) == 4
        assert all(slot[0] == 0 for slot in pauses.values()), "none at first"
        for earlier, later in (pair for slot in pauses.values() for pair in pairwise(slot)):
            assert later in (2 * earlier or FIRST_PAUSE_SECONDS, 0), "longer each time, or the worker lived for a while"


async def missing(gateway: Gateway, before: set[int]) -> bool:
    return not before <= {worker.pid for worker in gateway.workers()}


async def both(gateway: Gateway) -> bool:
    return len(gateway.workers()) == 2


@pytest.fixture(scope="module")
async def edge(shared_gateway: Gateway) -> AsyncIterator[Edge]:
    """An edge in front of the shared gateway, of little patience and with room for few connections."""
    settings: dict[str, Any] = {
        "EDGE_HEADER_SECONDS": "1",
        "EDGE_BODY_SECONDS": "1",
        "EDGE_CONNECTIONS": "512",
        "EDGE_LARGE_PER_SENDER": "64",
    }
    async with start_edge(shared_gateway.supervisor, [shared_gateway.port], **settings) as edge:
        yield edge


async def test_malformed_http_behind_the_edge(gateway: Gateway, edge: Edge, tally: Tally) -> None:
    """The edge answers 400, with a problem document wherever it can, or closes: no gateway ever hears of it."""
    assert (await edge.http.post(f"{edge.url}/events", json=[facebook()])).status_code == 202
    heard = gateway.log().count('"event":"request"')  # a line is there before its answer, other than a metric
    for name, request in {**MALFORMED, **BAD_CHUNKS}.items():
        answer = await said(edge.port, request)
        # No answer to line breaks alone, and none that is sure to arrive where we still send while it closes.
        if answer or name not in ("nothing but line breaks", *(name for name in MALFORMED if "100 KB" in name)):
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), (name, answer[:200])
            assert b"urn:sluice:problem:" in answer, (name, answer[:300])
        tally.count(bad_inputs=1)
    assert gateway.log().count('"event":"request"') == heard > 0
    for name, request in FIXED.items():
        assert b"urn:sluice:problem:no_events" in await said(edge.port, request), name
    assert (await edge.http.post(f"{edge.url}/events", json=[facebook()])).status_code == 202


async def test_slow_senders_are_cut_off_behind_the_edge(gateway: Gateway, edge: Edge, tally: Tally) -> None:
    """Half a header, half a body, half a chunk: the edge closes them, and no gateway ever holds anything of them."""
    halves = [HEAD[:30], HEAD + b"Content-Length: 100\r\n\r\n[", CHUNKED + b"\r\n5\r\n[", CHUNKED + b"\r\n5"] * 25
    slow = [asyncio.create_task(said(edge.port, half)) for half in halves]
    tally.count(bad_inputs=len(halves))
    answers = await post_all(edge.url, [encoded(facebook()) for _ in range(50)])
    assert Counter(answer.status for answer in answers) == {202: 50}

    async def idle() -> bool:  # workers bring their metrics up to date a few times a second
        return await gateway.metric("gateway_requests_in_flight") == 0

    await eventually(idle, what="the gateway holds no request")
    assert set(await asyncio.gather(*slow)) == {b""}
    assert await idle()


async def test_idle_connections_hold_nothing_up_behind_the_edge(gateway: Gateway, edge: Edge, tally: Tally) -> None:
    """With more idle connections than the edge has room for, those that wait are closed and good senders are served;
    the gateway knows none of them."""
    wanted = 10_000 if LONG else 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = min(wanted, hard - 2_000)
    if many < wanted:
        tools.lacking[f"a file limit above {wanted + 2_000}: only {many} idle connections were held"] += 1
    idle = []
    try:
        for _ in range(many):
            idle.append(await asyncio.open_connection(LOOPBACK, edge.port))
        tally.count(bad_inputs=many)
        answers = await post_all(edge.url, [encoded(facebook()) for _ in range(50)])
        assert Counter(answer.status for answer in answers) == {202: 50}
        for worker in gateway.workers():
            assert len(worker.net_connections()) < 150
    finally:
        for _, writer in idle:
            writer.transport.abort()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_flood_of_malformed_requests_beside_good_traffic(system: FaultySystem, tally: Tally) -> None:
    """Behind the edge: malformed requests of all kinds come as fast as they are answered, and each good request beside
    them is answered 202 and stored."""
    stop = asyncio.Event()
    port = system.services.ports["gateway"]
    malformed = [document for document in NOT_JSON if document[:1] not in b"[{ " and b"\0" not in document]  # no UTF-16
    bodies = [*malformed, b"", b"[]", b" "]
    async with start_edge(system.supervisor, [port, port]) as edge:

        async def flood(number: int) -> int:
            rng, sent = random.Random(number), 0
            poster = Poster(f"{edge.url}/events")
            while not stop.is_set():
                if number % 2:
                    answer = await poster.post(rng.choice(bodies))
                    assert answer.status == 400, answer
                else:
                    answered = await said(
                        edge.port, rng.choice([*BAD_CHUNKS.values(), HEAD + b"Content-Length: x\r\n\r\n"])
                    )
                    assert answered.startswith(b"HTTP/1.1 400"), answered
                sent += 1
            poster.close()
            return sent

        floods = [asyncio.create_task(flood(number)) for number in range(8)]
        poster = Poster(f"{edge.url}/events")
        for _ in range(400 if LONG else 60):
            body = b"[" + b",".join(encoded(event) for event in (facebook(), tiktok())) + b"]"
            answer = await poster.post(body)
            system.oracle.answered(body, answer.status, answer.payload)
            assert answer.status == 202, answer
        stop.set()
        tally.count(bad_inputs=sum(await asyncio.gather(*floods)))
        poster.close()
