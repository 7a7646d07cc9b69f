"""Send bodies on schedule: one POST every second, without waiting for responses, and without retries.

A body is built in the idle time before it is sent, or with `prepare` before the first POST.

Invariant: each POST is sent on time regardless of earlier ones, unless a concurrency limit delays it. Each POST is one
attempt and is counted once.

    sizes --build--> Body --post (a task of its own)--> Answer --> Tally
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from random import Random

from bench.publisher.bodies import Bodies, Body, Part
from bench.publisher.post import Answer, Poster
from bench.publisher.tally import Tally

LEAD_SECONDS = 0.1  # building a body starts at least this long before it is sent; 50,000 events take about 0.05
SLICE_PARTS = 16  # built without yielding to the event loop: less than a millisecond
RESENDABLE_POSTS = 8


def varied_sizes(seed: object, min_events: int, max_events: int) -> Iterator[int]:
    """Yield the events of each POST, uniformly distributed from `min_events` to `max_events`."""
    rng = Random(f"{seed}/sizes")
    while True:
        yield rng.randint(min_events, max_events)


def steady_sizes(events_per_second: float, every_seconds: float) -> Iterator[int]:
    """Return the events of each POST at a steady rate. Raises ValueError for less than one event per POST."""
    each = events_per_second * every_seconds
    if each < 1:
        raise ValueError(f"{events_per_second} events per second are less than one event every {every_seconds} s")
    return (int((number + 1) * each) - int(number * each) for number in count())


class Sender:
    """Posts bodies of the given sizes to `endpoint`.

    every_seconds    interval between POSTs; 0: as fast as `concurrency` allows
    resend_share     share of POSTs that repeat one of the last bodies
    on_answer        called with each body and its response

    Raises ValueError if the endpoint is not a URL, or if there is neither an interval nor a limit.
    """

    def __init__(
        self,
        endpoint: str,
        bodies: Bodies,
        sizes: Iterator[int],
        *,
        every_seconds: float = 1.0,
        concurrency: int | None = None,
        resend_share: float = 0.0,
        seed: object = None,
        on_answer: Callable[[Body, Answer], None] | None = None,
    ) -> None:
        if every_seconds == 0 and concurrency is None:
            raise ValueError("--every 0 requires --concurrency")
        self.tally = Tally()
        self._poster = Poster(endpoint)
        self._bodies = bodies
        self._sizes = sizes
        self._every_seconds = every_seconds
        self._concurrency = concurrency
        self._resend_share = resend_share
        self._rng = Random(f"{seed}/resend")
        self._on_answer = on_answer
        self._prepared: deque[Body] = deque()
        self._resendable: deque[Body] = deque(maxlen=RESENDABLE_POSTS if resend_share else 0)
        self._in_flight: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._lead_seconds = LEAD_SECONDS

    def prepare(self, posts: int) -> None:
        """Generate the templates, and that many bodies (11 MB each at the publisher's sizes)."""
        self._bodies.make_templates()
        for _ in range(posts):
            events, began_cpu = next(self._sizes), time.process_time()
            self._prepared.append(self._bodies.body(events))
            self.tally.built(events, time.process_time() - began_cpu)

    async def run(self, *, posts: int | None = None, seconds: float | None = None, wait_seconds: float = 30) -> Tally:
        """Send until `posts` POSTs, `seconds` or `stop`. Then wait at most `wait_seconds` for responses."""
        now = asyncio.get_running_loop().time
        started_cpu, built_cpu = time.process_time(), self.tally.build_cpu_seconds
        started = now() + self._lead_seconds
        end = float("inf") if seconds is None else started + seconds
        for number in count() if posts is None else range(posts):
            due = started + number * self._every_seconds
            if max(due, now()) >= end:
                await self._stopped_before(end)
                break
            if await self._stopped_before(due - self._lead_seconds):
                break
            body, resent = await self._next_body()
            if await self._stopped_before(due) or not await self._room():
                break
            behind_seconds = now() - due if self._every_seconds else 0.0
            self.tally.sent(body, resent=resent, behind_seconds=behind_seconds)
            task = asyncio.create_task(self._post(body))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
        await self._last_answers(wait_seconds)
        self.tally.seconds = now() - started
        self.tally.send_cpu_seconds = time.process_time() - started_cpu - (self.tally.build_cpu_seconds - built_cpu)
        return self.tally

    def stop(self) -> None:
        """Stop sending. A second call stops waiting for responses."""
        if self._stopping.is_set():
            self._give_up()
        self._stopping.set()

    async def _next_body(self) -> tuple[Body, bool]:
        """Return the body to send, and whether it was sent before."""
        if self._resendable and self._rng.random() < self._resend_share:
            return self._rng.choice(self._resendable), True
        body = self._prepared.popleft() if self._prepared else await self._build(next(self._sizes))
        self._resendable.append(body)
        return body, False

    async def _build(self, events: int) -> Body:
        """Build a body in slices, so that the event loop serves requests in flight meanwhile."""
        parts: list[Part] = []
        started, began_cpu = time.monotonic(), time.process_time()
        for part in self._bodies.parts(events):
            parts.append(part)
            if len(parts) % SLICE_PARTS == 0:
                self.tally.built(0, time.process_time() - began_cpu)
                await asyncio.sleep(0)
                began_cpu = time.process_time()
        body = self._bodies.assemble(events, parts)
        self.tally.built(events, time.process_time() - began_cpu)
        self._lead_seconds = max(self._lead_seconds, 2 * (time.monotonic() - started))
        return body

    async def _post(self, body: Body) -> None:
        try:
            answer = await self._poster.post(body.content)
        except asyncio.CancelledError:  # by `_give_up` alone
            answer = Answer(None, b"", 0.0, "no response before the run ended")
        self.tally.returned(body, answer)
        if self._on_answer is not None:
            self._on_answer(body, answer)

    async def _stopped_before(self, due: float) -> bool:
        try:
            async with asyncio.timeout_at(due):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    async def _room(self) -> bool:
        """Wait until one more POST may be in flight. Return False if stopped meanwhile."""
        while self._concurrency is not None and len(self._in_flight) >= self._concurrency:
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({stopping, *self._in_flight}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if self._stopping.is_set():
                return False
        return True

    async def _last_answers(self, wait_seconds: float) -> None:
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=wait_seconds)
        self._give_up()
        await asyncio.gather(*self._in_flight)
        self._poster.close()

    def _give_up(self) -> None:
        for task in self._in_flight:
            task.cancel()
