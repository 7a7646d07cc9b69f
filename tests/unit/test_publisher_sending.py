"""The publisher's sending: on time, overlapping, never again; and counts that add up, against a small server."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from bench.publisher.bodies import Bodies, Body
from bench.publisher.post import Answer, Poster
from bench.publisher.sender import Sender, steady_sizes, varied_sizes
from tests.support.waiting import in_time

Reply = Callable[["Target", bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Target:
    """A server that takes POSTs and does with each what `reply` says; remembers what it got."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    open: asyncio.Event = field(default_factory=asyncio.Event)


def http(status: int, document: dict[str, Any]) -> bytes:
    payload = json.dumps(document).encode()
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(payload),
        payload,
    )


async def accept(target: Target, content: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(http(202, {"correlationId": "c", "accepted": len(json.loads(content)), "rejected": 0, "errors": []}))


async def reject(target: Target, content: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(http(503, {"type": "about:blank", "status": 503}))


async def hang_up(target: Target, content: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def accept_when_open(target: Target, content: bytes, writer: asyncio.StreamWriter) -> None:
    await target.open.wait()
    await accept(target, content, writer)


@contextlib.asynccontextmanager
async def a_gateway(reply: Reply) -> AsyncIterator[Target]:
    target = Target()
    tasks = set[asyncio.Task[Any]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                assert length is not None
                content = await reader.readexactly(int(length[1]))
                target.heads.append(head)
                target.requests.append(content)
                target.arrived.release()
                await reply(target, content, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events"
    try:
        yield target
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def sender(url: str, size: int = 10, **options: Any) -> Sender:
    return Sender(url, Bodies(1, corrupt_share=0.0), repeat(size), **({"every_seconds": 0.01} | options))


async def test_one_post_is_one_json_array() -> None:
    """A POST is uncompressed JSON with its length, to the path of the endpoint."""
    async with a_gateway(accept) as target:
        tally = await sender(target.url).run(posts=1)
    assert target.heads[0].startswith(b"POST /events HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Content-Type: application/json\r\n" in target.heads[0]
    assert len(json.loads(target.requests[0])) == 10
    assert (tally.posts, tally.events_sent, tally.bytes_sent) == (1, 10, len(target.requests[0]))


async def test_posts_do_not_wait_for_replies() -> None:
    """While the server answers nothing, POSTs keep leaving on time and overlap; all answers count in the end."""
    async with a_gateway(accept_when_open) as target:
        sending = sender(target.url)
        run = asyncio.create_task(sending.run(posts=8))
        for _ in range(8):
            await in_time(target.arrived.acquire())
        assert sending.tally.in_flight == 8
        target.open.set()
        tally = await run
    assert tally.max_in_flight == 8
    assert tally.answered == {202: 8}
    assert (tally.accepted, tally.rejected, tally.unanswered, tally.in_flight) == (80, 0, 0, 0)


async def test_a_large_body_goes_out_whole_while_others_are_answered() -> None:
    """Bodies of 21 MB that overlap arrive byte for byte."""
    sent: list[bytes] = []
    async with a_gateway(accept) as target:
        sending = sender(
            target.url, 50_000, every_seconds=0.0, concurrency=2, on_answer=lambda body, _: sent.append(body.content)
        )
        tally = await sending.run(posts=3)
    assert tally.accepted == 150_000
    assert Counter(sent) == Counter(target.requests)
    assert min(map(len, sent)) > 20_000_000


async def test_concurrency_is_held_when_requested_for() -> None:
    """With a limit, no more POSTs than that are in flight, and the next leaves when one is answered."""
    async with a_gateway(accept_when_open) as target:
        sending = sender(target.url, concurrency=3, every_seconds=0.0)
        run = asyncio.create_task(sending.run(posts=6))
        for _ in range(3):
            await in_time(target.arrived.acquire())
        assert sending.tally.in_flight == 3
        target.open.set()
        tally = await run
    assert (tally.posts, tally.max_in_flight) == (6, 3)


async def test_what_is_rejected_is_not_sent_again() -> None:
    """A 503 is counted by its status; the batch is gone."""
    async with a_gateway(reject) as target:
        tally = await sender(target.url).run(posts=5)
    assert len(target.requests) == 5
    assert tally.answered == {503: 5}
    assert (tally.accepted, tally.rejected, tally.unanswered, tally.unexpected_answers) == (0, 0, 0, 0)


async def test_a_lost_connection_is_not_tried_again() -> None:
    """A connection that ends without an answer counts as unanswered, with the reason, and is not repeated."""
    async with a_gateway(hang_up) as target:
        tally = await sender(target.url).run(posts=4)
    assert len(target.requests) == 4
    assert (tally.posts, tally.unanswered, tally.answered.total()) == (4, 4, 0)
    assert all("Incomplete" in reason or "Connection" in reason for reason in tally.failures)


async def test_no_one_listens() -> None:
    """A rejected connection costs the POST, not the run."""
    async with a_gateway(accept) as target:
        pass
    tally = await sender(target.url).run(posts=3)
    assert (tally.posts, tally.unanswered) == (3, 3)


async def test_an_early_answer_counts() -> None:
    """A server that rejects before it has read the body is heard, and its connection is not used again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(503, {}))
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    poster = Poster(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events")
    answers = [await poster.post(bytes(30_000_000)) for _ in range(2)]
    server.close()
    assert [answer.status for answer in answers] == [503, 503]


@pytest.mark.parametrize(
    ("text", "status", "payload"),
    [
        (
            b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n2;x=1\r\n[]\r\n0\r\n\r\n",
            202,
            b"{}\n[]",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 X\r\nConnection: close\r\n\r\ntoo large", 413, b"too large"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"SSH-2.0-x\r\n\r\n", None, b""),
        (b"HTTP/1.1 202 X\r\nContent-Length: 10\r\n\r\nshort", None, b""),
        (b"", None, b""),
    ],
    ids=["chunked", "continue-and-close", "no-content", "not-http", "cut-off", "nothing"],
)
async def test_answers_in_every_framing(text: bytes, status: int | None, payload: bytes) -> None:
    """Answers are read in each way in which HTTP/1.1 frames them; what is none is a failure, not an exception."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n[]")
        writer.write(text)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    answer = await Poster(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/").post(b"[]")
    server.close()
    assert (answer.status, answer.payload) == (status, payload)
    assert (answer.failure is None) == (status is not None)


async def test_connections_are_used_again() -> None:
    """One POST after the other goes over one connection."""
    async with a_gateway(accept) as target:
        await sender(target.url, every_seconds=0.0, concurrency=1).run(posts=20)
    assert len(target.requests) == 20
    assert target.connections == 1


async def test_unexpected_answers_are_counted() -> None:
    """A 2xx that does not report what the contract calls for is counted apart: here the corrupt events are accepted."""
    async with a_gateway(accept) as target:
        bodies = Bodies(1, corrupt_share=1.0)
        tally = await Sender(target.url, bodies, repeat(2), every_seconds=0.0, concurrency=4).run(posts=50)
    assert tally.corrupted_posts == 50
    assert tally.events_sent == tally.accepted == 150
    assert 25 < tally.expected_invalid < 50
    assert tally.unexpected_answers == tally.expected_invalid


async def test_each_body_is_reported_with_its_answer() -> None:
    """Who checks what was stored gets every body with its keys, and what was answered to it."""
    reported: list[tuple[Body, Answer]] = []
    async with a_gateway(accept) as target:
        await sender(target.url, on_answer=lambda body, answer: reported.append((body, answer))).run(posts=3)
    assert {body.content for body, _ in reported} == set(target.requests)
    assert [answer.counts() for _, answer in reported] == [(10, 0)] * 3
    keys = [key for body, _ in reported for key in body.valid_keys()]
    assert len(set(keys)) == 30


async def test_whole_posts_are_sent_again_when_requested_for() -> None:
    """With a share of POSTs resent, the same bytes come again, and their events count as repeated."""
    async with a_gateway(accept) as target:
        tally = await sender(target.url, resend_share=0.5, seed=1).run(posts=30)
    assert 5 < tally.resent_posts < 25
    assert len(set(target.requests)) == 30 - tally.resent_posts
    assert tally.repeated_events == 10 * tally.resent_posts


async def test_prepared_bodies_go_first() -> None:
    """What is prepared is sent as it is, in order; then bodies are built as usual."""
    async with a_gateway(accept) as target:
        sending = sender(target.url, concurrency=1)
        sending.prepare(2)
        assert sending.tally.built_events == 20
        tally = await sending.run(posts=3)
    assert tally.built_events == 30
    same = Bodies(1, corrupt_share=0.0)
    ids = [re.findall(rb'"eventId":"([^"]+)"', same.body(10).content) for _ in range(3)]
    assert [re.findall(rb'"eventId":"([^"]+)"', content) for content in target.requests] == ids


async def test_stop_waits_for_the_last_answers_and_twice_does_not() -> None:
    """The first stop ends the sending, the second gives up on answers: those POSTs count as unanswered."""
    async with a_gateway(accept_when_open) as target:
        sending = sender(target.url)
        run = asyncio.create_task(sending.run())
        await in_time(target.arrived.acquire())
        sending.stop()
        async with a_gateway(accept) as another:
            await sender(another.url).run(posts=10)
        assert not run.done(), "while a whole other run went by"
        sending.stop()
        tally = await in_time(run)
    assert tally.posts == tally.unanswered > 0
    assert tally.in_flight == 0


async def test_answers_that_never_come_end_with_the_wait() -> None:
    """After the last POST the run waits so long for answers and no longer."""
    async with a_gateway(accept_when_open) as target:
        tally = await in_time(sender(target.url).run(posts=2, wait_seconds=0.1))
    assert tally.unanswered == 2
    assert list(tally.failures) == ["no response before the run ended"]


async def test_pace_is_kept() -> None:
    """One POST leaves every so many seconds until the time is over, never sooner."""
    async with a_gateway(accept) as target:
        tally = await sender(target.url, every_seconds=0.25).run(seconds=1.0)
    assert 2 <= tally.posts <= 4  # 4 on a machine with nothing else to do
    assert tally.seconds >= 1.0


def test_steady_sizes_hold_the_rate() -> None:
    """At a steady rate fractions are carried over; less than one event a POST is an error."""
    sizes = steady_sizes(25, 0.1)
    assert [next(sizes) for _ in range(4)] == [2, 3, 2, 3]
    with pytest.raises(ValueError, match="less than one event"):
        steady_sizes(5, 0.1)


def test_varied_sizes_are_uniform() -> None:
    """Sizes are spread evenly from the fewest to the most, and are the same for the same seed."""
    drawn = [size for size, _ in zip(varied_sizes(1, 1_000, 50_000), range(4_000), strict=False)]
    assert 1_000 <= min(drawn) < 1_200
    assert 49_800 < max(drawn) <= 50_000
    assert sum(drawn) / len(drawn) == pytest.approx(25_500, rel=0.03)
    again = varied_sizes(1, 1_000, 50_000)
    assert drawn[:10] == [next(again) for _ in range(10)]


@pytest.mark.parametrize("url", ["localhost:8080/events", "ftp://127.0.0.1/events", "http:///events", ""])
def test_an_endpoint_is_a_url(url: str) -> None:
    """What is no http URL is rejected by name before anything is sent."""
    with pytest.raises(ValueError, match="not an http or https URL"):
        sender(url)


async def command(*arguments: str, endpoint: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.publisher", *arguments),
        env=os.environ | {"EVENT_ENDPOINT": endpoint},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_takes_its_endpoint_from_the_environment(tmp_path: Path) -> None:
    """EVENT_ENDPOINT says where to; the final counts are written, and the exit code is 0."""
    counts = tmp_path / "counts.json"
    async with a_gateway(accept) as target:
        run = await command(
            "--posts", "3", "--every", "0.05", "--max-events", "200", "--seed", "7", "--json", str(counts),
            endpoint=target.url,
        )  # fmt: skip
        output, errors = await in_time(run.communicate())
    assert (run.returncode, errors) == (0, b"")
    report = json.loads(counts.read_text())
    assert json.loads(output[output.index(b"{") :]) == report
    assert report["seed"] == "7"
    assert report["posts"] == len(target.requests) == 3
    assert report["answered"] == {"202": 3}
    assert report["accepted"] == report["events_sent"] == sum(len(json.loads(content)) for content in target.requests)
    assert report["bytes"] == sum(map(len, target.requests))
    assert report["unanswered"] == 0


async def test_the_command_ends_well_when_interrupted() -> None:
    """Ctrl-C ends a run without an end, with its counts and exit code 0."""
    async with a_gateway(accept) as target:
        run = await command("--every", "0.05", "--max-events", "10", endpoint=target.url)
        for _ in range(3):
            await in_time(target.arrived.acquire())
        run.send_signal(signal.SIGINT)
        output, errors = await in_time(run.communicate())
    assert (run.returncode, errors) == (0, b"")
    assert json.loads(output[output.index(b"{") :])["posts"] == len(target.requests)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min-events", "20", "--max-events", "10"], "--min-events 20 is more than --max-events 10"),
        (["--events-per-second", "100", "--max-events", "10"], "cannot be combined"),
        (["--every", "0"], "requires --concurrency"),
        (["--late", "0.1", "--late-up-to", "999999"], "at most 518400"),
        (["--late", "0.6", "--duplicates", "0.6"], "together exceed 1"),
        (["--corrupt-share", "2"], "not a share between 0 and 1"),
        (["nowhere"], "not an http or https URL: 'nowhere'"),
    ],
)
async def test_options_that_make_no_sense_are_reported(arguments: list[str], message: str) -> None:
    """Bad options end the command with a message that names them, and exit code 2."""
    run = await command(*arguments, endpoint="http://127.0.0.1:9/events")
    _, errors = await in_time(run.communicate())
    assert run.returncode == 2
    assert message in errors.decode()
